//! The step that looks for the platform's secret and tokens in everything the applications have, and on the disk.
//!
//! Invariant: what is looked for is looked for in every form it is usually written in, and that this would be found
//! is proven within the step.

use std::path::Path;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use memchr::memmem;
use serde_json::json;

use super::{Held, Scene, USERS, ensure, expect_status};

/// One thing that must not be found, in one of its forms.
struct Needle {
    what: &'static str,
    form: &'static str,
    bytes: Vec<u8>,
}

/// A secret in the forms that it is usually written in.
fn forms(what: &'static str, secret: &str) -> Vec<Needle> {
    let needle = |form, text: String| Needle { what, form, bytes: text.into_bytes() };
    let hex = secret.bytes().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    vec![
        needle("as it is", secret.to_owned()),
        needle("in base64", STANDARD_NO_PAD.encode(secret)),
        needle("in base64url", URL_SAFE_NO_PAD.encode(secret)),
        needle("in hex", hex),
        needle("percent-encoded", secret.replace('=', "%3D").replace('+', "%2B").replace('/', "%2F")),
    ]
}

fn found<'n>(haystack: &[u8], needles: &'n [Needle]) -> Option<&'n Needle> {
    needles.iter().find(|needle| memmem::find(haystack, &needle.bytes).is_some())
}

/// Looks through every file below `folder`; answers how many there were, or the first that holds a needle.
fn search(folder: &Path, needles: &[Needle]) -> Result<usize, String> {
    let mut files = 0;
    let cannot = |error: std::io::Error| format!("{} cannot be read: {error}", folder.display());
    for entry in std::fs::read_dir(folder).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        if path.is_dir() {
            files += search(&path, needles)?;
            continue;
        }
        let content = std::fs::read(&path).map_err(cannot)?;
        if let Some(needle) = found(&content, needles) {
            return Err(format!("the file {} holds {} {}", path.display(), needle.what, needle.form));
        }
        files += 1;
    }
    Ok(files)
}

impl Scene<'_> {
    pub(super) async fn secret_stays(&mut self) -> Held {
        let current = self.platform_token("genesys").await?;
        let echo = json!({ "kind": "status", "status": 404, "body": current.expose() });
        self.sabotage(json!({ "platform": "genesys", "path": USERS, "first": 1 }), echo).await?;
        let answer = self.cast.application.get(&format!("{USERS}?pageSize=1")).await?;
        if !self.sabotaged {
            expect_status(&format!("GET {USERS}"), &answer, 200)?;
        }
        let sandbox = self.world.sandbox();
        let admin = sandbox.admin();
        let mut needles = forms("the platform's client secret", admin.secret.expose());
        let basic = format!("{}:{}", admin.id, admin.secret.expose());
        needles.push(Needle {
            what: "the platform's login",
            form: "as a Basic header",
            bytes: STANDARD.encode(basic).into_bytes(),
        });
        needles.extend(self.cast.platform_tokens.iter().flat_map(|token| forms("a platform token", token.expose())));
        let replaced = &self.cast.platform_secrets;
        needles.extend(replaced.iter().flat_map(|secret| forms("a secret that was replaced", secret.expose())));
        needles.extend(sandbox.access_keys.iter().flat_map(|key| forms("the CXone access key", key.secret.expose())));
        let probe = needles.first().map(|needle| needle.bytes.clone()).unwrap_or_default();
        ensure(found(&probe, &needles).is_some(), || "the search finds nothing at all".to_owned())?;
        let players = [&self.cast.application, &self.cast.restricted, &self.cast.cxone, &self.cast.shop];
        let received: Vec<String> = players.iter().flat_map(|player| player.everything()).collect();
        for text in &received {
            if let Some(needle) = found(text.as_bytes(), &needles) {
                return Err(format!("the application holds {} {}", needle.what, needle.form));
            }
        }
        let bytes: usize = received.iter().map(String::len).sum();
        self.narrator.tell(&format!(
            "{bytes} bytes reached the applications: no secret, no token of the platform, in no encoding"
        ));
        // On the disk, keyholder's own tokens and client secrets must not be found either: only their digests are kept.
        for player in players {
            if !player.token().is_empty() {
                needles.extend(forms("a token of keyholder", player.token()));
            }
        }
        needles.extend(forms("a client's secret", self.world.main.secret.expose()));
        let files = search(&self.world.loaded().paths.state, &needles)?;
        self.narrator.tell(&format!("{files} files of keyholder's state: none of them there in clear either"));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_found() {
        let needles = forms("it", "s3cret+value/1=");
        for text in
            ["x s3cret+value/1= y", "czNjcmV0K3ZhbHVlLzE9", "7333637265742b76616c75652f313d", "a=s3cret%2Bvalue%2F1%3D"]
        {
            assert!(found(text.as_bytes(), &needles).is_some(), "{text}");
        }
        assert!(found(b"nothing here", &needles).is_none());
    }
}
