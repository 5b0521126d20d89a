//! The strict fake as the official boto3 sees it: a fake that only suits our own client would be found.

use crate::{bench::Fake, python::script};

/// Rules in the script; a rule that is lost there fails here.
const RULES: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rules_of_the_fake_hold_for_boto3() {
    let fake = Fake::start().await;
    let ready = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ready.path(), fake.running.ready().to_string()).unwrap();
    let mut python = script("aws.py");
    python.arg(ready.path());
    let output = tokio::task::spawn_blocking(move || python.output()).await.unwrap().expect("python starts");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(told.lines().filter(|line| line.starts_with("holds: ")).count(), RULES, "{told}");
}
