//! Reads what `/metrics` shows: the `OpenMetrics` text of our own registry, which is the one truth about metrics.

use std::collections::BTreeMap;

/// A metric with its samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Its name, without the suffixes of its kind.
    pub name: String,
    /// `counter`, `gauge`, `histogram` or `info`.
    pub kind: String,
    /// Its meaning.
    pub help: String,
    /// Its samples, in their order.
    pub samples: Vec<Sample>,
}

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// What follows the metric's name: `_total`, `_bucket`, `_sum`, `_count`, `_info` or nothing.
    pub suffix: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// A text that is not `OpenMetrics` as far as we use it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is not OpenMetrics text")]
pub struct ParseError {
    /// The line, from 1.
    pub line: usize,
}

/// Reads every family. Exemplars and timestamps, which keyholder does not write, are not known.
pub fn parse(text: &str) -> Result<Vec<Family>, ParseError> {
    let mut families: Vec<Family> = Vec::new();
    let mut helps = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let wrong = ParseError { line: index + 1 };
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').ok_or(wrong)?;
            helps.insert(name, help);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or(wrong)?;
            let help = helps.get(name).copied().unwrap_or_default().to_owned();
            families.push(Family { name: name.to_owned(), kind: kind.to_owned(), help, samples: Vec::new() });
        } else if !line.starts_with('#') && !line.is_empty() {
            let family = families.last_mut().ok_or(wrong.clone())?;
            let sample = sample(line, &family.name).ok_or(wrong)?;
            family.samples.push(sample);
        }
    }
    Ok(families)
}

fn sample(line: &str, family: &str) -> Option<Sample> {
    let rest = line.strip_prefix(family)?;
    let end = rest.find([' ', '{'])?;
    let (suffix, rest) = rest.split_at(end);
    let (labels, value) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    Some(Sample { suffix: suffix.to_owned(), labels, value: value.trim().parse().ok()? })
}

/// `name="value",...}` and what follows.
fn labels(text: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(',');
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, after) = rest.split_once("=\"")?;
        let (mut value, mut letters) = (String::new(), after.char_indices());
        let end = loop {
            match letters.next()? {
                (at, '"') => break at,
                (_, '\\') => match letters.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        labels.insert(name.to_owned(), value);
        rest = after.get(end + 1..)?;
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::{
        encoding::text::encode,
        metrics::{counter::Counter, family::Family as Metrics, gauge::Gauge, histogram::Histogram},
        registry::Registry,
    };

    use super::*;

    #[test]
    fn what_the_registry_writes_reads_back() {
        let mut registry = Registry::default();
        let counters = Metrics::<[(&str, String); 1], Counter>::default();
        registry.register("c", "Counts", counters.clone());
        let awkward = "a \"quoted\" \\ value,\nwith {everything} in it";
        counters.get_or_create_owned(&[("l", awkward.to_owned())]).inc_by(7);
        let gauge = Gauge::<i64>::default();
        registry.register("g", "Goes", gauge.clone());
        gauge.set(-3);
        let histogram = Histogram::new([0.5, 1.0]);
        registry.register("h_seconds", "Buckets", histogram.clone());
        histogram.observe(0.7);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let families = parse(&text).unwrap();
        let [c, g, h] = families.as_slice() else { panic!("{families:?}") };
        assert_eq!((c.kind.as_str(), c.samples[0].suffix.as_str(), c.samples[0].value), ("counter", "_total", 7.0));
        assert_eq!(c.samples[0].labels["l"], awkward);
        assert_eq!((g.samples[0].value, g.help.as_str()), (-3.0, "Goes."));
        let buckets: Vec<_> = h.samples.iter().filter(|sample| sample.suffix == "_bucket").collect();
        assert_eq!(buckets.iter().map(|bucket| bucket.value).collect::<Vec<_>>(), [0.0, 1.0, 1.0]);
        assert_eq!(buckets[2].labels["le"], "+Inf");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["x 1", "# TYPE a gauge\nb 1", "# TYPE a gauge\na one", "# TYPE a gauge\na{l=\"x} 1", "# TYPE a"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
