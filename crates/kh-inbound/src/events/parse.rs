//! An event as Amazon EventBridge delivers what Genesys Cloud publishes.
//!
//! Shapes: the envelope is EventBridge's (`id`, `source`, `detail-type`, `detail`); `detail` is the platform's
//! notification (`topicName`, `eventBody`), as in the official sample of an `OAuthClient` audit; `eventBody` is
//! `SystemMessageSystemMessage` (`oauthClientId`, `userId`, `reason`) or `AuditTopicAuditLogMessage` (`entityType`,
//! `action`, `entity.id`) of the official SDKs. Invariants: what has another shape is an error and never half an event;
//! what is kept of it is short and printable.

use serde::Deserialize;

/// Largest event: EventBridge takes 256 KiB, and a webhook's envelope adds little.
pub const EVENT_BYTES_MAX: usize = 288 * 1024;

/// Longest id and topic that are kept, in bytes: ids are UUIDs, topics have two of them.
const NAME_MAX: usize = 256;

/// How the sources of Genesys Cloud's partner events begin; the organisation's id and a name that its administrator
/// chose follow.
const SOURCE: &str = "aws.partner/genesys.com/cloud/";

/// Tokens of a user were revoked. In a rule's `detail-type` the id is a placeholder; in `topicName` it is the user's.
const TOKEN_REVOKED: &str = "v2.system.token_revoked";

/// An entry of the platform's audit log.
const AUDITS: &str = "v2.audits.entitytype.";

/// Actions on an OAuth client after which its tokens may be worth less: names of the audit service's actions.
const CLIENT_ACTIONS: [&str; 6] = ["Delete", "Update", "Revoke", "Reset", "Rotate", "Deauthorize"];

/// Entities whose change ends tokens of clients that the entry does not name.
const TOKEN_ENTITIES: [&str; 3] = ["AccessToken", "OAuthClientAuthorization", "AuthUser"];

/// Actions on them.
const TOKEN_ACTIONS: [&str; 5] = ["Delete", "Revoke", "Reset", "Deauthorize", "Update"];

/// Why bytes are no event.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EventError {
    /// Larger than [`EVENT_BYTES_MAX`].
    #[error("the event is larger than {EVENT_BYTES_MAX} bytes")]
    TooLarge,
    /// Not a JSON object of this shape.
    #[error("this is no event in EventBridge's form")]
    Shape,
}

/// What an event means here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// What the platform said of tokens is not believed any more: of this client's, or of all.
    AskAnew {
        /// The platform's id of the OAuth client.
        client: Option<String>,
    },
    /// It ends no token.
    None,
    /// Its topic is none of those that are understood.
    UnknownTopic,
}

/// An event, as far as it matters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlatformEvent {
    /// EventBridge's id of it.
    pub id: String,
    /// The platform's topic.
    pub topic: String,
    /// The id of the organisation that it is about.
    pub organization: Option<String>,
    /// What it means.
    pub effect: Effect,
}

#[derive(Deserialize)]
struct Envelope {
    id: String,
    source: String,
    #[serde(rename = "detail-type")]
    _detail_type: String,
    detail: Detail,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Detail {
    topic_name: String,
    event_body: Body,
}

/// The members of both kinds of bodies that matter.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    oauth_client_id: Option<String>,
    entity_type: Option<String>,
    action: Option<String>,
    entity: Option<Entity>,
}

#[derive(Deserialize)]
struct Entity {
    id: Option<String>,
}

impl PlatformEvent {
    /// Reads an event.
    pub fn parse(body: &[u8]) -> Result<Self, EventError> {
        if body.len() > EVENT_BYTES_MAX {
            return Err(EventError::TooLarge);
        }
        let envelope: Envelope = serde_json::from_slice(body).map_err(|_| EventError::Shape)?;
        let (id, topic) = (name(envelope.id)?, name(envelope.detail.topic_name)?);
        let rest = envelope.source.strip_prefix(SOURCE).and_then(|rest| rest.split('/').next());
        let organization = rest.map(|id| name(id.to_owned())).transpose()?;
        let effect = effect(&topic, envelope.detail.event_body);
        Ok(Self { id, topic, organization, effect })
    }
}

fn name(text: String) -> Result<String, EventError> {
    let fits = !text.is_empty() && text.len() <= NAME_MAX && text.bytes().all(|byte| byte.is_ascii_graphic());
    if fits { Ok(text) } else { Err(EventError::Shape) }
}

fn effect(topic: &str, body: Body) -> Effect {
    // a client's name that is none stands for every client: to ask too much does no harm
    let anew = |client: Option<String>| Effect::AskAnew { client: client.and_then(|client| name(client).ok()) };
    if topic.strip_prefix(TOKEN_REVOKED).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')) {
        return anew(body.oauth_client_id);
    }
    if !topic.starts_with(AUDITS) {
        return Effect::UnknownTopic;
    }
    let (entity, action) = (body.entity_type.unwrap_or_default(), body.action.unwrap_or_default());
    if entity == "OAuthClient" && CLIENT_ACTIONS.contains(&&*action) {
        return anew(body.entity.and_then(|entity| entity.id));
    }
    if TOKEN_ENTITIES.contains(&&*entity) && TOKEN_ACTIONS.contains(&&*action) {
        return anew(None);
    }
    Effect::None
}
