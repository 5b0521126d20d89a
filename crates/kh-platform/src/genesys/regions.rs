//! The 18 public regions of Genesys Cloud, read at compile time from `data/genesys/regions.json` (official Python SDK
//! 269.0.0).

use std::sync::LazyLock;

use serde::Deserialize;

/// One region.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Region {
    /// The SDK's name, such as `us_east_1`.
    pub sdk: String,
    /// The AWS region, such as `us-east-1`.
    pub aws_region: String,
    /// The domain, such as `mypurecloud.com`.
    pub domain: String,
    /// Base of API calls, such as `https://api.mypurecloud.com`.
    pub api: String,
    /// Base of logins, such as `https://login.mypurecloud.com`.
    pub login: String,
}

/// No region has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no Genesys Cloud region {given:?}")]
pub struct UnknownRegion {
    /// What was asked for, cut to 64 characters.
    pub given: String,
    /// The nearest name, if one is near: an AWS region or a domain.
    pub did_you_mean: Option<&'static str>,
}

#[derive(Deserialize)]
struct Table {
    regions: Vec<Region>,
}

static REGIONS: LazyLock<Vec<Region>> = LazyLock::new(|| {
    let table: Table = serde_json::from_str(include_str!("../../data/genesys/regions.json"))
        .expect("the region table is part of the program and a test reads it");
    table.regions
});

/// Every region, in the SDK's order.
pub fn regions() -> &'static [Region] {
    &REGIONS
}

/// Finds a region by AWS name (`eu-central-1`), SDK name (`eu_central_1`), domain (`mypurecloud.de`) or by its API or
/// login host, whatever the case.
pub fn find_region(text: &str) -> Result<&'static Region, UnknownRegion> {
    let wanted = text.trim().to_ascii_lowercase();
    let host = wanted.strip_prefix("https://").unwrap_or(&wanted).trim_end_matches('/');
    let bare = ["api.", "login.", "apps."].iter().find_map(|prefix| host.strip_prefix(prefix)).unwrap_or(host);
    let named =
        |region: &&Region| [&region.aws_region, &region.sdk, &region.domain].into_iter().any(|name| name == bare);
    regions()
        .iter()
        .find(named)
        .ok_or_else(|| UnknownRegion { given: text.chars().take(64).collect(), did_you_mean: nearest(bare) })
}

/// The nearest AWS region or domain, if at most a third of its letters differ.
fn nearest(text: &str) -> Option<&'static str> {
    if text.len() > 64 {
        return None;
    }
    regions()
        .iter()
        .flat_map(|region| [region.aws_region.as_str(), region.domain.as_str()])
        .map(|name| (strsim::damerau_levenshtein(text, name), name))
        .min()
        .filter(|(distance, name)| distance * 3 <= name.len())
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() {
        assert_eq!(regions().len(), 18);
        for region in regions() {
            assert_eq!(region.api, format!("https://api.{}", region.domain));
            assert_eq!(region.login, format!("https://login.{}", region.domain));
            assert_eq!(region.sdk, region.aws_region.replace('-', "_"));
            let same = regions().iter().filter(|other| other.domain == region.domain || other.sdk == region.sdk);
            assert_eq!(same.count(), 1, "{}", region.domain);
        }
    }

    #[test]
    fn lookups() {
        for (text, domain) in [
            ("us-east-1", "mypurecloud.com"),
            ("EU_CENTRAL_1", "mypurecloud.de"),
            (" mypurecloud.ie ", "mypurecloud.ie"),
            ("https://api.usw2.pure.cloud/", "usw2.pure.cloud"),
            ("login.edee1.eusc-pure.cloud", "edee1.eusc-pure.cloud"),
        ] {
            assert_eq!(find_region(text).unwrap().domain, domain, "{text}");
        }
    }

    #[test]
    fn suggestions() {
        for (text, suggestion) in [
            ("eu-centrl-1", Some("eu-central-1")),
            ("mypurecloud.co", Some("mypurecloud.com")),
            ("us-esat-2", Some("us-east-2")),
            ("nonsense", None),
            ("", None),
            (&"x".repeat(100_000), None),
        ] {
            let error = find_region(text).unwrap_err();
            assert_eq!(error.did_you_mean, suggestion, "{text:.30}");
            assert!(error.given.len() <= 64);
        }
    }
}
