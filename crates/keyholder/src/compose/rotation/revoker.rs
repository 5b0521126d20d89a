//! What becomes of access tokens that were made with a secret that leaked, by platform.
//!
//! Invariant: "revoked" is said only where the platform's own documentation or keyholder's own registry makes it so;
//! everywhere else the tokens live on, and the run says until when.

use std::sync::Arc;

use kh_core::{
    ClientId,
    port::{BoxFuture, ManageError, Strategy},
};
use kh_issuer::Issuer;
use kh_rotator::{OldTokens, Revoked, TokenRevoker};

use crate::config::{PlatformConfig, PlatformDetail};

/// How the platform revokes tokens; none where nothing is known that does. CXone documents no revocation of an access
/// key's tokens.
pub(super) fn of(platform: &PlatformConfig, issuer: Option<&Arc<Issuer>>) -> Option<Arc<dyn TokenRevoker>> {
    match &platform.detail {
        PlatformDetail::Genesys { secrets_api: false, .. } => Some(Arc::new(DieWithTheirClient)),
        PlatformDetail::Oauth2 { own_clients: true, .. } => Some(Arc::new(OwnTokens(Arc::clone(issuer?)))),
        PlatformDetail::Genesys { .. } | PlatformDetail::Cxone { .. } | PlatformDetail::Oauth2 { .. } => None,
    }
}

/// Genesys Cloud: no operation revokes the tokens of a client-credentials client (`DELETE /api/v2/tokens/{userId}` is
/// for those of a person); they end with the client.
struct DieWithTheirClient;

impl TokenRevoker for DieWithTheirClient {
    fn revoke<'a>(&'a self, tokens: OldTokens<'a>) -> BoxFuture<'a, Result<Revoked, ManageError>> {
        let gone = tokens.strategy == Strategy::Pair && tokens.deleted;
        let why = "Genesys Cloud revokes tokens of a client only by deleting it".to_owned();
        Box::pin(async move { Ok(if gone { Revoked::All } else { Revoked::LiveOn(why) }) })
    }
}

/// keyholder's own: a token is not tied to the secret that it was made with, so that all of the client's go.
struct OwnTokens(Arc<Issuer>);

impl TokenRevoker for OwnTokens {
    fn revoke<'a>(&'a self, tokens: OldTokens<'a>) -> BoxFuture<'a, Result<Revoked, ManageError>> {
        Box::pin(async move {
            let client = tokens.id.and_then(|id| id.0.split_once('/')?.0.parse::<ClientId>().ok());
            let Some(client) = client else {
                return Err(ManageError::NotDone { reason: "the old secret names no client".to_owned() });
            };
            match self.0.revoke_tokens_of(&client).await {
                Ok(count) => {
                    tracing::info!(client.id = %client, tokens.revoked = count, "every token of a client was revoked");
                    Ok(Revoked::All)
                }
                // what was revoked stays revoked, and the rest goes at the next try
                Err(error) => Err(ManageError::NotDone { reason: error.to_string() }),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use kh_core::rotation::ManagedId;

    use super::*;
    use crate::config;

    #[tokio::test]
    async fn only_a_deleted_client_takes_its_tokens_along() {
        let text = "[platform.g]\nkind = \"genesys\"\nregion = \"us-east-1\"\n\
                    [platform.c]\nkind = \"cxone\"\narea = \"na1\"\n\
                    [platform.s]\nkind = \"genesys\"\nregion = \"us-east-1\"\nsecrets_api = true\n";
        let config = config::parse(text.as_bytes()).expect("a configuration").config;
        let of = |name: &str| of(&config.platforms[&name.parse().unwrap()], None);
        assert!(of("c").is_none() && of("s").is_none(), "nothing is known that revokes them");
        let (credential, id) = ("acme".parse().unwrap(), ManagedId("one".to_owned()));
        for (strategy, deleted, dead) in [
            (Strategy::Pair, true, true),
            (Strategy::Pair, false, false),
            (Strategy::Swap, true, false),
            (Strategy::Swap, false, false),
        ] {
            let tokens = OldTokens { credential: &credential, strategy, id: Some(&id), deleted };
            let revoked = of("g").unwrap().revoke(tokens).await.unwrap();
            assert_eq!(revoked == Revoked::All, dead, "{strategy:?} {deleted}");
        }
    }
}
