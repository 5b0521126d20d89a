//! The registry's metrics as OTLP metrics, cumulative since the start of the process.
//!
//! Invariant: the values are those of the scrape, number by number; nothing is measured a second time.

use std::collections::BTreeMap;

use bytes::Bytes;
use opentelemetry_proto::tonic::{
    collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse},
    common::v1::KeyValue,
    metrics::v1::{
        AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
        ScopeMetrics, Sum, metric::Data, number_data_point,
    },
};
use prost::Message;

use super::{
    OtlpSettings,
    client::Accepted,
    span::{SCHEMA, resource, scope, text},
    text::{Family, Sample},
};

pub(super) type Answer = ExportMetricsServiceResponse;

impl Accepted for Answer {
    fn rejected(&self) -> u64 {
        self.partial_success.as_ref().map_or(0, |partial| u64::try_from(partial.rejected_data_points).unwrap_or(0))
    }
}

/// The request for a scrape, and how many points it has.
pub(super) fn request(settings: &OtlpSettings, families: &[Family], since: u64, now: u64) -> (Bytes, u64) {
    let metrics: Vec<Metric> = families.iter().map(|family| metric(family, since, now)).collect();
    let count = metrics.iter().map(points).sum();
    let scope_metrics = vec![ScopeMetrics { scope: Some(scope()), metrics, schema_url: SCHEMA.to_owned() }];
    let resource = Some(resource(settings));
    let request = ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics { resource, scope_metrics, schema_url: SCHEMA.to_owned() }],
    };
    (Bytes::from(request.encode_to_vec()), count)
}

fn points(metric: &Metric) -> u64 {
    let count = match &metric.data {
        Some(Data::Sum(sum)) => sum.data_points.len(),
        Some(Data::Gauge(gauge)) => gauge.data_points.len(),
        Some(Data::Histogram(histogram)) => histogram.data_points.len(),
        Some(Data::ExponentialHistogram(_) | Data::Summary(_)) | None => 0,
    };
    count as u64
}

fn metric(family: &Family, since: u64, now: u64) -> Metric {
    let numbers = || family.samples.iter().map(|sample| point(sample, since, now)).collect();
    let cumulative = AggregationTemporality::Cumulative.into();
    let data = match family.kind.as_str() {
        "counter" => Data::Sum(Sum { data_points: numbers(), aggregation_temporality: cumulative, is_monotonic: true }),
        "histogram" => Data::Histogram(Histogram {
            data_points: histograms(family, since, now),
            aggregation_temporality: cumulative,
        }),
        _ => Data::Gauge(Gauge { data_points: numbers() }),
    };
    let unit = match family.name.rsplit('_').next() {
        Some("seconds") => "s",
        Some("bytes") => "By",
        _ => "",
    };
    // what OTLP has no type for keeps its suffix, so that it has one name in a scrape and in what a collector passes on
    let suffix = if family.kind == "info" { "_info" } else { "" };
    Metric {
        name: format!("{}{suffix}", family.name),
        description: family.help.clone(),
        unit: unit.to_owned(),
        metadata: Vec::new(),
        data: Some(data),
    }
}

fn attributes(labels: &BTreeMap<String, String>) -> Vec<KeyValue> {
    labels.iter().filter(|(name, _)| *name != "le").map(|(name, value)| text(name, value)).collect()
}

fn point(sample: &Sample, since: u64, now: u64) -> NumberDataPoint {
    NumberDataPoint {
        attributes: attributes(&sample.labels),
        start_time_unix_nano: since,
        time_unix_nano: now,
        value: Some(number_data_point::Value::AsDouble(sample.value)),
        ..NumberDataPoint::default()
    }
}

/// One point per set of labels; Prometheus' buckets are cumulative, OTLP's are not.
fn histograms(family: &Family, since: u64, now: u64) -> Vec<HistogramDataPoint> {
    let mut all: BTreeMap<Vec<(&String, &String)>, (HistogramDataPoint, u64)> = BTreeMap::new();
    for sample in &family.samples {
        let labels: Vec<_> = sample.labels.iter().filter(|(name, _)| *name != "le").collect();
        let (point, below) = all.entry(labels).or_insert_with(|| {
            let point = HistogramDataPoint {
                attributes: attributes(&sample.labels),
                start_time_unix_nano: since,
                time_unix_nano: now,
                ..HistogramDataPoint::default()
            };
            (point, 0)
        });
        #[allow(clippy::cast_sign_loss, reason = "counts are whole and never negative")]
        let count = sample.value as u64;
        match sample.suffix.as_str() {
            "_sum" => point.sum = Some(sample.value),
            "_count" => point.count = count,
            "_bucket" => {
                point.bucket_counts.push(count.saturating_sub(*below));
                *below = count;
                let bound = sample.labels.get("le").and_then(|bound| bound.parse::<f64>().ok());
                point.explicit_bounds.extend(bound.filter(|bound| bound.is_finite()));
            }
            _ => {}
        }
    }
    all.into_values().map(|(point, _)| point).collect()
}
