//! The process as the kernel sees it, under the names that all Prometheus clients use.

use std::{fmt, fs};

use kh_core::Clock;
use prometheus_client::{collector::Collector, encoding::DescriptorEncoder};
use rustix::process::{Resource, getrlimit};

use super::{family, float};

/// Fields of `/proc/self/stat` after the name, counted from the third one, the state (proc_pid_stat(5)).
const UTIME: usize = 11;
const STIME: usize = 12;
const THREADS: usize = 17;
const VSIZE: usize = 20;
const RSS: usize = 21;

/// Clock ticks per second in `/proc`: 100 on every Linux (`USER_HZ` is part of its interface).
const TICKS: f64 = 100.0;

/// Metrics of this process.
#[derive(Debug)]
pub struct ProcessMetrics {
    started_seconds: f64,
}

impl ProcessMetrics {
    /// The process counts as started now.
    pub fn new(clock: &dyn Clock) -> Box<Self> {
        Box::new(Self { started_seconds: float(clock.now().wall.0) / 1000.0 })
    }
}

/// What `/proc/self/stat` tells.
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    threads: f64,
    virtual_bytes: f64,
    resident_bytes: f64,
}

fn stat(text: &str, page: u64) -> Option<Stat> {
    // the name may hold spaces and brackets; the last bracket ends it
    let fields: Vec<&str> = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Stat {
        cpu_seconds: float(number(UTIME)? + number(STIME)?) / TICKS,
        threads: float(number(THREADS)?),
        virtual_bytes: float(number(VSIZE)?),
        resident_bytes: float(number(RSS)?.saturating_mul(page)),
    })
}

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let page = rustix::param::page_size() as u64;
        let stat = fs::read_to_string("/proc/self/stat").ok().and_then(|text| stat(&text, page));
        let open = fs::read_dir("/proc/self/fd").map(|folder| float(folder.count() as u64)).ok();
        let most = getrlimit(Resource::Nofile).current.map(float);
        let encoder = &mut encoder;
        let mut one = |name: &str, value: Option<f64>| {
            family(encoder, name, |to| value.map_or(Ok(()), |value| to.encode_gauge(&value)))
        };
        one("process_start_time_seconds", Some(self.started_seconds))?;
        one("process_open_fds", open)?;
        one("process_max_fds", most)?;
        one("process_threads", stat.as_ref().map(|stat| stat.threads))?;
        one("process_virtual_memory_bytes", stat.as_ref().map(|stat| stat.virtual_bytes))?;
        one("process_resident_memory_bytes", stat.as_ref().map(|stat| stat.resident_bytes))?;
        family(encoder, "process_cpu_seconds", |to| {
            let Some(stat) = &stat else { return Ok(()) };
            to.encode_counter::<[(&str, &str); 0], _, f64>(&stat.cpu_seconds, None)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let fields: Vec<String> = (0..40).map(|at| at.to_string()).collect();
        let text = format!("1 (a) b) {}", fields.join(" "));
        let expected = Stat { cpu_seconds: 0.23, threads: 17.0, virtual_bytes: 20.0, resident_bytes: 42.0 };
        assert_eq!(stat(&text, 2), Some(expected));
        assert_eq!((stat("", 1), stat("1 (a) R 1", 1)), (None, None));
    }

    #[test]
    fn this_process_is_told_about() {
        let told = stat(&fs::read_to_string("/proc/self/stat").unwrap(), 4096).unwrap();
        assert!(told.threads >= 1.0 && told.resident_bytes > 100_000.0 && told.virtual_bytes >= told.resident_bytes);
    }
}
