//! The strict fake as the official boto3 sees it: a fake that only suits our own client would be found.

use std::{io::Write, process::Stdio};

use crate::{bench::Fake, python::script};

/// Rules in the script; a rule that is lost there fails here.
const RULES: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rules_of_the_fake_hold_for_boto3() {
    let fake = Fake::start().await;
    let ready = fake.running.ready().to_string();
    let run = move || {
        let mut child = script("aws.py").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python starts");
        child.stdin.take().expect("it is piped").write_all(ready.as_bytes()).expect("python reads");
        child.wait_with_output().expect("python ends")
    };
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}");
    assert_eq!(told.lines().filter(|line| line.starts_with("holds: ")).count(), RULES, "{told}");
}
