//! Finds a region of Genesys Cloud by what people type: its AWS name, a domain, any address of the organisation, or the
//! place.
//!
//! Invariant: every region is found by its place, and a place that stands for more than one region is asked back.

use kh_platform::genesys::{Region, find_region, regions};

/// Places by AWS name, as AWS names its regions; the first is the one that is shown.
const PLACES: [(&str, &[&str]); 18] = [
    ("us-east-1", &["N. Virginia", "Virginia", "US East", "Americas (US East)"]),
    ("us-east-2", &["Ohio (FedRAMP)", "Ohio", "FedRAMP", "US Government"]),
    ("us-west-2", &["Oregon", "US West", "Americas (US West)"]),
    ("ca-central-1", &["Montreal", "Canada", "Central Canada"]),
    ("mx-central-1", &["Querétaro", "Queretaro", "Mexico"]),
    ("sa-east-1", &["São Paulo", "Sao Paulo", "Brazil"]),
    ("eu-west-1", &["Dublin", "Ireland"]),
    ("eu-west-2", &["London", "United Kingdom", "UK", "England"]),
    ("eu-central-1", &["Frankfurt", "Germany"]),
    ("eu-central-2", &["Zurich", "Zürich", "Switzerland"]),
    ("ap-south-1", &["Mumbai", "India"]),
    ("ap-southeast-1", &["Singapore"]),
    ("ap-southeast-2", &["Sydney", "Australia"]),
    ("ap-northeast-1", &["Tokyo"]),
    ("ap-northeast-2", &["Seoul", "Korea", "South Korea"]),
    ("ap-northeast-3", &["Osaka"]),
    ("me-central-1", &["Dubai", "UAE", "United Arab Emirates"]),
    ("eusc-de-east-1", &["Brandenburg (EU sovereign)", "Brandenburg", "EU sovereign", "European Sovereign Cloud"]),
];

/// Words that stand for more than one region, and those regions.
const AMBIGUOUS: [(&str, &[&str]); 5] = [
    ("japan", &["ap-northeast-1", "ap-northeast-3"]),
    ("europe", &["eu-west-1", "eu-west-2", "eu-central-1", "eu-central-2"]),
    ("eu", &["eu-west-1", "eu-west-2", "eu-central-1", "eu-central-2"]),
    ("us", &["us-east-1", "us-west-2", "us-east-2"]),
    ("usa", &["us-east-1", "us-west-2", "us-east-2"]),
];

/// The place of a region, to show behind its name.
pub(super) fn place(region: &Region) -> &'static str {
    PLACES
        .iter()
        .find(|(name, _)| *name == region.aws_region)
        .and_then(|(_, places)| places.first())
        .copied()
        .unwrap_or_default()
}

/// Every region with its domain and place, one line each.
pub(super) fn list() -> String {
    let line = |region: &Region| {
        format!(
            "  {:<16}{:<24}{}
",
            region.aws_region,
            region.domain,
            place(region)
        )
    };
    regions().iter().map(line).collect::<Vec<_>>().concat()
}

/// Finds a region; the error says what to type instead.
pub(super) fn find(text: &str) -> Result<&'static Region, String> {
    let host = host_of(text);
    let error = match find_region(host) {
        Ok(region) => return Ok(region),
        Err(error) => error,
    };
    // An address of the organisation's own, such as https://apps.mypurecloud.de/directory or a subdomain of it.
    let below = |region: &&Region| host.to_ascii_lowercase().ends_with(&format!(".{}", region.domain));
    if let Some(region) = regions().iter().find(below) {
        return Ok(region);
    }
    let wanted = plain(text);
    if let Some((_, several)) = AMBIGUOUS.iter().find(|(word, _)| *word == wanted) {
        return Err(format!("{text} has more than one region: {}", several.join(", ")));
    }
    let named = PLACES.iter().find(|(_, places)| places.iter().any(|place| plain(place) == wanted));
    if let Some((name, _)) = named {
        return find_region(name).map_err(|error| error.to_string());
    }
    let places = PLACES.iter().flat_map(|(name, places)| places.iter().map(move |place| (plain(place), *name)));
    let near = places
        .map(|(place, name)| (strsim::damerau_levenshtein(&wanted, &place), place.chars().count(), name))
        .min()
        .filter(|(distance, length, _)| wanted.len() <= 64 && distance * 4 <= *length)
        .map(|(_, _, name)| name);
    Err(match error.did_you_mean.or(near) {
        Some(similar) => format!("{error}; did you mean {similar}?"),
        None => format!("{error}; `?` lists all 18"),
    })
}

/// The host of an address, or the text itself.
fn host_of(text: &str) -> &str {
    let text = text.trim();
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    rest.split(['/', '?', '#', ':']).next().unwrap_or(rest)
}

/// Lower case without accents and without what people put between words.
fn plain(text: &str) -> String {
    let letters = text.trim().chars().flat_map(char::to_lowercase);
    letters
        .filter(|letter| letter.is_alphanumeric())
        .map(|letter| match letter {
            'ü' => 'u',
            'é' => 'e',
            'ã' | 'á' => 'a',
            other => other,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_region_is_found_by_name_domain_hosts_and_place() {
        assert_eq!(list().lines().count(), 18);
        assert_eq!(crate::config::mask::mask_words(&list()), list(), "nothing in it looks like a secret");
        for region in regions() {
            let places = PLACES.iter().find(|(name, _)| *name == region.aws_region).unwrap().1;
            let typed = [
                region.aws_region.clone(),
                region.aws_region.to_uppercase(),
                region.domain.clone(),
                region.api.clone(),
                format!("{}/oauth/token", region.login),
                format!("https://apps.{}/directory/#/admin", region.domain),
                format!("  {} ", region.domain),
                format!("https://api.{}:443/api/v2", region.domain),
            ];
            let typed = typed.into_iter().chain(places.iter().map(|place| (*place).to_owned()));
            for text in typed.chain(places.iter().map(|place| place.to_uppercase())) {
                assert_eq!(find(&text).map(|found| &found.domain), Ok(&region.domain), "{text}");
            }
        }
    }

    #[test]
    fn what_is_no_region_is_told() {
        for (text, said) in [
            ("Frankfrut", "did you mean eu-central-1?"),
            ("eu-centrl-1", "did you mean eu-central-1?"),
            ("japan", "ap-northeast-1, ap-northeast-3"),
            ("EU", "eu-west-1, eu-west-2, eu-central-1, eu-central-2"),
            ("acme.mygenesys.com", "`?` lists all 18"),
            ("mars", "`?` lists all 18"),
            ("", "`?` lists all 18"),
            ("evil-mypurecloud.de.example.com", "`?` lists all 18"),
        ] {
            let error = find(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
        assert!(find(&"x".repeat(100_000)).is_err());
    }
}
