//! Revocations in memory.
//!
//! Invariants: an entry leaves only when no token that it can hit may be alive; at the cap a revocation is widened
//! (to the token's client, its subject, its issuer) and never dropped, so that the bound costs logins and not safety.

use std::{collections::HashMap, time::Duration};

use kh_core::{
    Sha256, UnixMillis,
    identity::Identity,
    revocation::{RevocationRecord, RevocationTarget, keys},
};

/// How long a revocation stays in memory after its end: a wall clock that ran ahead by less than this has brought no
/// token back.
pub(super) const KEPT_AFTER_END: Duration = Duration::from_hours(24);

/// What is remembered of one revocation.
#[derive(Clone, Copy, Debug)]
struct Entry {
    before: UnixMillis,
    expires_at: UnixMillis,
    /// Which change of the set made it what it is.
    change: u64,
}

/// How many revocations are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caps {
    /// Of single tokens.
    pub tokens: usize,
    /// Of clients, subjects and issuers.
    pub classes: usize,
}

impl Default for Caps {
    /// 100,000 single tokens, about 8 MB, and 10,000 clients and subjects: a storm of revocations becomes one entry
    /// per client before it becomes a leak.
    fn default() -> Self {
        Self { tokens: 100_000, classes: 10_000 }
    }
}

/// The set.
#[derive(Debug, Default)]
pub(crate) struct Index {
    tokens: HashMap<Sha256, Entry>,
    classes: HashMap<Sha256, Entry>,
    /// Of everything, and of everything of one issuer: one per issuer, so not bounded by the caps.
    issuers: HashMap<Sha256, Entry>,
    /// Of what issuers said. Those of whole issuers are one per issuer.
    answers: HashMap<Sha256, Entry>,
    caps: Caps,
    /// How many revocations hit what was not hit before.
    changes: u64,
}

/// What adding a revocation did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Added {
    /// It hits what was not hit before.
    New,
    /// Whatever it hits was hit before.
    Known,
    /// It had to be widened.
    Widened,
}

/// A token as far as revocations can name it.
#[derive(Clone, Copy)]
pub(crate) struct Named<'a> {
    pub(crate) digest: &'a Sha256,
    /// When it was issued, or the earliest moment at which it can have been.
    pub(crate) issued_at: UnixMillis,
    pub(crate) identity: &'a Identity,
}

impl Index {
    pub(crate) fn new(caps: Caps) -> Self {
        Self { caps, ..Self::default() }
    }

    /// The record as it can be kept: itself, or the narrowest wider one that there is room for.
    pub(crate) fn fitting(&self, record: RevocationRecord) -> RevocationRecord {
        let mut record = record;
        if record.target.is_token() {
            if self.tokens.len() < self.caps.tokens || self.tokens.contains_key(&record.target.key()) {
                return record;
            }
            record = record.widened();
        }
        let map = self.map_of(&record.target);
        if map.len() < self.caps.classes || map.contains_key(&record.target.key()) || is_of_issuer(&record.target) {
            return record;
        }
        record.widened_to_issuer()
    }

    fn map_of(&self, target: &RevocationTarget) -> &HashMap<Sha256, Entry> {
        match target {
            RevocationTarget::Everything { .. } => &self.issuers,
            RevocationTarget::Answers { .. } => &self.answers,
            RevocationTarget::Client { .. } | RevocationTarget::Subject { .. } => &self.classes,
            RevocationTarget::Token { .. }
            | RevocationTarget::Signed { .. }
            | RevocationTarget::TokenId { .. }
            | RevocationTarget::Issued { .. } => &self.tokens,
        }
    }

    /// Adds what [`Index::fitting`] makes of `record`.
    pub(crate) fn add(&mut self, record: RevocationRecord) -> Added {
        let key = record.target.key();
        let record = self.fitting(record);
        let kept = record.target.key();
        let map = match &record.target {
            RevocationTarget::Everything { .. } => &mut self.issuers,
            RevocationTarget::Answers { .. } => &mut self.answers,
            RevocationTarget::Client { .. } | RevocationTarget::Subject { .. } => &mut self.classes,
            RevocationTarget::Token { .. }
            | RevocationTarget::Signed { .. }
            | RevocationTarget::TokenId { .. }
            | RevocationTarget::Issued { .. } => &mut self.tokens,
        };
        let new = Entry { before: record.before, expires_at: record.expires_at, change: 0 };
        let mut is_known = true;
        let entry = map.entry(kept).or_insert_with(|| {
            is_known = false;
            new
        });
        is_known &= new.before <= entry.before;
        if !is_known {
            self.changes += 1;
            entry.change = self.changes;
        }
        entry.before = entry.before.max(new.before);
        entry.expires_at = entry.expires_at.max(new.expires_at);
        match (kept == key, is_known) {
            (false, _) => Added::Widened,
            (true, true) => Added::Known,
            (true, false) => Added::New,
        }
    }

    /// Whether the token is revoked. The end of an entry does not matter here: a token that it hits and that is still
    /// alive is revoked. `signed` is the digest of what a JWT's signature covers; it is asked for where that can matter.
    pub(crate) fn hits(&self, token: Named<'_>, signed: impl FnOnce() -> Option<Sha256>) -> bool {
        self.hits_token(token, signed) || self.hits_class(token)
    }

    fn hits_token(&self, token: Named<'_>, signed: impl FnOnce() -> Option<Sha256>) -> bool {
        if self.tokens.is_empty() {
            return false;
        }
        let identity = token.identity;
        let issuer = identity.issuer();
        let has = |key: Sha256| self.tokens.contains_key(&key);
        has(keys::token(token.digest))
            || signed().is_some_and(|signed| has(keys::signed(&signed)))
            || identity.token_id().is_some_and(|id| has(keys::token_id(issuer, id)))
            || match (identity.subject(), identity.issued_at()) {
                (Some(subject), Some(at)) => has(keys::issued(issuer, subject, at)),
                _ => false,
            }
    }

    fn hits_class(&self, token: Named<'_>) -> bool {
        let Named { issued_at, identity, .. } = token;
        let issuer = Some(&**identity.issuer());
        let hit =
            |map: &HashMap<Sha256, Entry>, key: Sha256| map.get(&key).is_some_and(|entry| issued_at <= entry.before);
        if !self.issuers.is_empty()
            && [None, issuer].into_iter().any(|issuer| hit(&self.issuers, keys::everything(issuer)))
        {
            return true;
        }
        if self.classes.is_empty() {
            return false;
        }
        [None, issuer].into_iter().any(|issuer| {
            identity.client().is_some_and(|client| hit(&self.classes, keys::client(issuer, client)))
                || identity.subject().is_some_and(|subject| hit(&self.classes, keys::subject(issuer, subject)))
        })
    }

    /// Whether what the issuer of `identity` said in second `answered_s` may still be believed. An answer of the same
    /// second as the order to forget is forgotten: asking once more than needed costs nothing.
    pub(crate) fn believes(&self, identity: &Identity, answered_s: u64) -> bool {
        !self.has_order(identity, |order| answered_s <= order.before.as_secs())
    }

    /// How often the set has changed.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// Whether an order to forget what the issuer of `identity` said came after so many changes. By their sequence, and
    /// not by a clock: an answer of the same second as the order may be older or younger than it.
    pub(crate) fn overtakes(&self, identity: &Identity, changes: u64) -> bool {
        self.has_order(identity, |order| order.change > changes)
    }

    /// Whether such an order to forget is about `identity`.
    fn has_order(&self, identity: &Identity, such: impl Fn(&Entry) -> bool) -> bool {
        if self.answers.is_empty() {
            return false;
        }
        let issuer = identity.issuer();
        let has = |key: Sha256| self.answers.get(&key).is_some_and(&such);
        has(keys::answers(issuer, None))
            || identity.client().is_some_and(|client| has(keys::answers(issuer, Some(client))))
    }

    /// Forgets what ended a while ago.
    pub(crate) fn sweep(&mut self, now: UnixMillis) {
        for map in [&mut self.tokens, &mut self.classes, &mut self.issuers, &mut self.answers] {
            map.retain(|_, entry| is_kept(entry.expires_at, now));
        }
    }

    /// How many there are: of tokens, of clients, subjects and issuers.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        (self.tokens.len(), self.classes.len() + self.issuers.len())
    }
}

/// Whether a revocation that ends then is in memory at `now`.
pub(super) fn is_kept(expires_at: UnixMillis, now: UnixMillis) -> bool {
    now < expires_at.plus(KEPT_AFTER_END)
}

/// Whether it names nothing narrower than an issuer.
fn is_of_issuer(target: &RevocationTarget) -> bool {
    matches!(target, RevocationTarget::Everything { .. } | RevocationTarget::Answers { client: None, .. })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kh_core::revocation::Digest;

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_790_000_000_000);

    fn text(text: &str) -> String {
        text.to_owned()
    }

    /// `jti=a sub=s client=c iat=-5 iss=i`, each optional; `iat` in seconds from now.
    fn identity(of: &str) -> Identity {
        let field = |name: &str| of.split(' ').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        let mut builder = Identity::builder(Arc::from(field("iss").unwrap_or("i")));
        if let Some(id) = field("jti") {
            builder = builder.token_id(id);
        }
        if let Some(subject) = field("sub") {
            builder = builder.subject(subject);
        }
        if let Some(client) = field("client") {
            builder = builder.client(client);
        }
        if let Some(iat) = field("iat") {
            let at = NOW.0.saturating_add_signed(iat.parse::<i64>().unwrap() * 1000);
            builder = builder.issued_at(UnixMillis(at));
        }
        builder.build().unwrap()
    }

    fn record(target: RevocationTarget) -> RevocationRecord {
        let expires_at = NOW.plus(Duration::from_hours(1));
        RevocationRecord { target, before: NOW, revoked_at: NOW, expires_at, issuer: None, client: None, subject: None }
    }

    fn hits(index: &Index, token: &[u8], of: &str) -> bool {
        let (digest, identity) = (Sha256::of(token), identity(of));
        let issued_at = identity.issued_at().unwrap_or_default();
        index.hits(Named { digest: &digest, issued_at, identity: &identity }, || None)
    }

    fn of(target: RevocationTarget) -> Index {
        let mut index = Index::new(Caps::default());
        assert_eq!(index.add(record(target)), Added::New);
        index
    }

    #[test]
    fn each_kind_hits_what_it_names_and_nothing_else() {
        let issuer = || Some(text("i"));
        let token = RevocationTarget::Token { digest: Digest(Sha256::of(b"t")) };
        let id = RevocationTarget::TokenId { issuer: text("i"), id: text("a") };
        let issued = RevocationTarget::Issued { issuer: text("i"), subject: text("s"), at: UnixMillis(NOW.0 - 5000) };
        let client = RevocationTarget::Client { issuer: issuer(), client: text("c") };
        let any_client = RevocationTarget::Client { issuer: None, client: text("c") };
        let subject = RevocationTarget::Subject { issuer: issuer(), subject: text("s") };
        let all_of = RevocationTarget::Everything { issuer: issuer() };
        let all = RevocationTarget::Everything { issuer: None };
        for (target, yes, no) in [
            (token, vec!["jti=x"], vec![]),
            (id, vec!["jti=a", "jti=a iat=9"], vec!["jti=b", "jti=a iss=j", ""]),
            (issued, vec!["sub=s iat=-5", "sub=s iat=-5 jti=q"], vec!["sub=s iat=-4", "sub=r iat=-5", "sub=s"]),
            (
                client,
                vec!["client=c iat=0", "client=c iat=-9", "client=c"],
                vec!["client=c iat=1", "client=d", "client=c iss=j"],
            ),
            (any_client, vec!["client=c iat=0 iss=j"], vec!["client=c iat=1 iss=j"]),
            (subject, vec!["sub=s iat=0", "sub=s"], vec!["sub=s iat=1", "sub=t", "client=s"]),
            (all_of, vec!["sub=x iat=0", ""], vec!["sub=x iat=1", "sub=x iss=j"]),
            (all, vec!["sub=x iat=0 iss=j", ""], vec!["sub=x iat=1"]),
        ] {
            let index = of(target.clone());
            for of in yes {
                assert!(hits(&index, b"t", of), "{target:?} hits {of}");
            }
            for of in no {
                assert!(!hits(&index, b"u", of), "{target:?} does not hit {of}");
            }
        }
    }

    #[test]
    fn a_second_revocation_only_adds() {
        let target = RevocationTarget::Client { issuer: None, client: text("c") };
        let mut index = of(target.clone());
        let weaker = RevocationRecord { before: UnixMillis(1), expires_at: UnixMillis(1), ..record(target.clone()) };
        assert_eq!(index.add(weaker), Added::Known);
        assert!(hits(&index, b"t", "client=c iat=0"));
        assert_eq!(index.add(RevocationRecord { before: UnixMillis(NOW.0 + 1), ..record(target) }), Added::New);
        index.sweep(NOW);
        assert!(hits(&index, b"t", "client=c iat=0"));
    }

    #[test]
    fn entries_leave_after_their_end_and_not_before() {
        let mut index = of(RevocationTarget::TokenId { issuer: text("i"), id: text("a") });
        for hours in [0, 1, 2, 24] {
            index.sweep(NOW.plus(Duration::from_hours(hours)));
            assert!(hits(&index, b"t", "jti=a"), "{hours} h");
        }
        index.sweep(NOW.plus(Duration::from_hours(25)));
        assert_eq!(index.sizes(), (0, 0));
    }

    #[test]
    fn at_the_cap_a_revocation_is_widened_and_never_dropped() {
        let mut index = Index::new(Caps { tokens: 2, classes: 1 });
        let single = |id: &str, client: Option<&str>| RevocationRecord {
            issuer: Some(text("i")),
            client: client.map(text),
            ..record(RevocationTarget::TokenId { issuer: text("i"), id: text(id) })
        };
        assert_eq!(index.add(single("a", Some("c"))), Added::New);
        assert_eq!(index.add(single("b", Some("c"))), Added::New);
        assert_eq!(index.add(single("b", Some("c"))), Added::Known, "what is there needs no room");
        assert_eq!(index.add(single("d", Some("c"))), Added::Widened, "the third is widened to its client");
        assert!(hits(&index, b"t", "jti=d client=c iat=-1"), "the token itself");
        assert!(hits(&index, b"t", "jti=e client=c iat=0"), "and its client's others");
        assert!(!hits(&index, b"t", "jti=e client=c iat=1"), "but not a login after it");
        assert!(!hits(&index, b"t", "jti=e client=f iat=-1"), "and nobody else");
        assert_eq!(index.add(single("g", Some("f"))), Added::Widened, "the second client is widened to the issuer");
        assert!(hits(&index, b"t", "jti=g client=f iat=-1"));
        assert!(hits(&index, b"t", "jti=h client=z iat=-1"));
        assert!(!hits(&index, b"t", "jti=h client=z iat=1"));
        assert!(!hits(&index, b"t", "jti=h client=z iat=-1 iss=j"));
        assert_eq!(index.sizes(), (2, 2));
        for round in 0..1000 {
            index.add(single(&format!("r{round}"), Some(&format!("c{round}"))));
        }
        assert_eq!(index.sizes(), (2, 2), "a storm takes no memory");
    }

    #[test]
    fn an_answer_is_overtaken_by_a_later_order_about_it_and_by_nothing_else() {
        let order = |client: Option<&str>, before: u64| {
            let target = RevocationTarget::Answers { issuer: text("i"), client: client.map(text) };
            RevocationRecord { before: UnixMillis(before), ..record(target) }
        };
        let overtaken = |index: &Index, asked: u64| index.overtakes(&identity("client=c"), asked);
        let mut index = Index::new(Caps::default());
        assert_eq!(index.add(order(Some("c"), NOW.0)), Added::New);
        let asked = index.changes();
        assert_eq!(index.add(order(Some("c"), NOW.0)), Added::Known, "the same order, read back from the store");
        assert_eq!(index.add(order(Some("d"), NOW.0)), Added::New);
        assert_eq!(index.add(record(RevocationTarget::Everything { issuer: None })), Added::New);
        assert!(!overtaken(&index, asked), "the order about it was there before the question");
        assert!(!index.believes(&identity("client=c"), NOW.as_secs()), "although it is of the same second");
        for (client, before) in [(Some("c"), NOW.0 + 1), (None, NOW.0 + 1), (None, NOW.0 + 2)] {
            let asked = index.changes();
            assert_eq!(index.add(order(client, before)), Added::New);
            assert!(overtaken(&index, asked), "{client:?}");
            assert!(!overtaken(&index, index.changes()), "{client:?}");
        }
    }

    #[test]
    fn a_signing_input_is_found_under_any_signature() {
        let signed = Sha256::of(b"header.payload");
        let index = of(RevocationTarget::Signed { digest: Digest(signed) });
        let identity = identity("sub=s");
        for spelling in [&b"header.payload.one"[..], b"header.payload.two"] {
            let digest = Sha256::of(spelling);
            let token = Named { digest: &digest, issued_at: UnixMillis(0), identity: &identity };
            assert!(index.hits(token, || Some(signed)));
            assert!(!index.hits(token, || None));
        }
    }

    /// The moment stands for the token's own in what it is compared with, and not in what names the token.
    #[test]
    fn a_token_that_tells_no_time_is_hit_by_the_earliest_moment_that_it_can_be_of() {
        let client = RevocationTarget::Client { issuer: None, client: text("c") };
        let subject = RevocationTarget::Subject { issuer: Some(text("i")), subject: text("s") };
        let all = RevocationTarget::Everything { issuer: Some(text("i")) };
        let issued = RevocationTarget::Issued { issuer: text("i"), subject: text("s"), at: NOW };
        let (digest, identity) = (Sha256::of(b"t"), identity("client=c sub=s"));
        for (target, by_time) in [(client, true), (subject, true), (all, true), (issued, false)] {
            let index = of(target.clone());
            for (issued_at, hit) in [(0, by_time), (NOW.0, by_time), (NOW.0 + 1, false)] {
                let token = Named { digest: &digest, issued_at: UnixMillis(issued_at), identity: &identity };
                assert_eq!(index.hits(token, || None), hit, "{target:?} {issued_at}");
            }
        }
    }
}
