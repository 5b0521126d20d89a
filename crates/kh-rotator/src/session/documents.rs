//! Documents of the escrow, and who acts with what token.

use std::{sync::Arc, time::Duration};

use kh_core::{
    SecretString,
    credential::CredentialDocument,
    port::{BoxFuture, FetchError, ManageError, RotatorTokens, SecretManagement, secret_management::Rotator},
};
use kh_rotation::{Acting, Escrow};

use super::{Halt, Session};

/// One token for every call: the rotator's own credential is being replaced.
struct OneToken(SecretString);

impl RotatorTokens for OneToken {
    fn token(&self, _which: Rotator, _min_ttl: Duration) -> BoxFuture<'_, Result<SecretString, ManageError>> {
        Box::pin(async { Ok(self.0.duplicate()) })
    }

    fn has(&self, _which: Rotator) -> bool {
        true
    }
}

/// Who makes a call to the platform's management.
pub(super) struct Actor {
    pub(super) management: Arc<dyn SecretManagement>,
    pub(super) by: Rotator,
}

/// A token fetch that failed, as a management call that was not made.
pub(super) fn not_logged_in(error: &FetchError) -> ManageError {
    match error {
        FetchError::RateLimited { retry_after, .. } => ManageError::Throttled { retry_after: *retry_after },
        FetchError::Rejected { platform_code, .. } => ManageError::Denied {
            platform_code: platform_code.clone(),
            hint: "the secret that acts for the rotator is not valid".to_owned(),
        },
        FetchError::Transient { .. } | FetchError::Unusable(_) => ManageError::NotDone { reason: error.to_string() },
    }
}

impl Session {
    /// A document of the escrow.
    pub(super) async fn document(&self, which: Escrow) -> Result<CredentialDocument, Halt> {
        let opened = self.opened(which).await?;
        CredentialDocument::parse(&opened)
            .map_err(|error| Halt::Unreadable { run: self.run.began().run, why: format!("its escrow: {error}") })
    }

    /// The document that names the client or user for calls to the management: the old one from the preflight for as long
    /// as it is in escrow, then the new one, and before all that what the first store serves. `Ok(None)`: no store was
    /// looked at yet, or it has none.
    pub(super) async fn current(&self) -> Result<Option<CredentialDocument>, Halt> {
        if self.run.baseline().is_some() {
            return self.naming().await.map(Some);
        }
        let Some(first) = self.subject.stores.first() else { return Ok(None) };
        if let Some(known) = self.live.get(&first.name) {
            return Ok(Some(known.copied()));
        }
        Ok(None)
    }

    /// See [`Session::current`]; after the preflight there is always one.
    pub(super) async fn naming(&self) -> Result<CredentialDocument, Halt> {
        match self.document(Escrow::Old).await {
            Err(Halt::NoEscrow { .. }) => self.document(Escrow::New).await,
            found => found,
        }
    }

    /// Who acts. `Err` inside: that identity cannot act now, and nothing was sent.
    pub(super) async fn actor(&self, acting: Acting) -> Result<Result<Actor, ManageError>, Halt> {
        let token = match acting {
            Acting::Rotator(by) => {
                return Ok(Ok(Actor { management: Arc::clone(&self.subject.management), by }));
            }
            Acting::EscrowedToken => {
                let token = self.opened(Escrow::Token).await?.into_text();
                token.ok_or_else(|| ManageError::NotDone { reason: "the token in escrow is no text".to_owned() })
            }
            Acting::NewSecret => {
                let document = self.document(Escrow::New).await?;
                let fetched = self.subject.endpoint.fetch(&document, None).await;
                fetched.map(|issued| issued.access_token).map_err(|error| not_logged_in(&error))
            }
        };
        let Some(act_with) = &self.subject.act_with else {
            let reason = "the platform has no management that acts with a given token".to_owned();
            return Ok(Err(ManageError::NotDone { reason }));
        };
        Ok(token.map(|token| Actor { management: act_with(Arc::new(OneToken(token))), by: self.run.began().by }))
    }
}
