//! Commands as hooks: real programs and what they see.

use std::{path::Path, time::Duration};

use kh_core::port::DeliveryHook;
use kh_deliver::Command;

use crate::rig::{CANARY, Files, deliver, document, hex, promotion, refused, transient};

fn shell(script: &str) -> Command {
    let arguments = vec!["-c".to_owned(), script.to_owned()];
    Command::new("reload", "/bin/sh", arguments, vec![("REGION".into(), "eu".into())]).unwrap()
}

#[tokio::test]
async fn it_gets_the_promotion_and_nothing_else() {
    let files = Files::new();
    let folder = files.folder().display();
    let script =
        format!("cat > {folder}/in; tr '\\0' '\\n' < /proc/$$/environ > {folder}/env; pwd > {folder}/pwd; echo done");
    let hook = shell(&script);
    assert_eq!(deliver(&hook).await.unwrap(), "the program ended with 0: done");
    let read = |name: &str| std::fs::read_to_string(files.path(name)).unwrap();
    let told: kh_core::port::Promotion = serde_json::from_str(&read("in")).unwrap();
    assert_eq!(told, promotion());
    assert_eq!(read("env").trim(), "REGION=eu");
    assert_eq!(read("pwd"), "/\n");
    assert_eq!(hook.describe(), "runs /bin/sh with 2 arguments, at most 54 s");
}

#[tokio::test]
async fn what_its_end_means() {
    for (script, again, told) in [
        ("echo first >&2; echo last >&2; exit 1", true, "the program ended with 1: last"),
        ("exit 75", true, "the program ended with 75"),
        ("exit 64", false, "the program ended with 64"),
        ("exit 77", false, "the program ended with 77"),
        ("exit 78", false, "the program ended with 78"),
        ("exec /bin/false", true, "the program ended with 1"),
        ("/not/there 2>/dev/null", false, "the program ended with 127"),
        ("kill -9 $$", true, "the program was killed by a signal"),
    ] {
        let result = deliver(&shell(script)).await;
        let reason = if again { transient(result) } else { refused(result) };
        assert_eq!(reason, told, "{script}");
    }
    let missing = Command::new("x", "/not/there", Vec::new(), Vec::new()).unwrap();
    assert!(refused(deliver(&missing).await).starts_with("/not/there cannot be started"));
    assert!(Command::new("x", "relative/path", Vec::new(), Vec::new()).is_err());
}

#[tokio::test]
async fn output_that_holds_the_secret_is_not_told() {
    let files = Files::new();
    for text in [CANARY.to_owned(), hex(CANARY, "")] {
        std::fs::write(files.path("text"), format!("before {text} after\nlast line")).unwrap();
        let result = deliver(&shell(&format!("cat {}/text; exit 1", files.folder().display()))).await;
        assert_eq!(transient(result), "the program ended with 1: its output holds the secret and is not told");
    }
}

#[tokio::test]
async fn much_output_is_read_and_cut() {
    let result = deliver(&shell("yes keyholder | head -c 5000000; printf '\\n\\033[31m%0500d\\n' 7; exit 3")).await;
    let reason = transient(result);
    assert!(reason.starts_with("the program ended with 3: ?[31m000"), "{reason}");
    assert!(reason.len() < 250, "{}", reason.len());
}

/// The process has ended: gone, or a zombie that waits for its parent.
fn has_ended(pid: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat"));
    stat.map_or(true, |stat| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')))
}

async fn wait_for_end(pid: &str) {
    for _ in 0..1000 {
        if has_ended(pid) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{pid} is still there");
}

#[tokio::test]
async fn what_does_not_end_is_stopped_with_all_its_children() {
    let files = Files::new();
    let folder = files.folder().display().to_string();
    // the child and the grandchild ignore TERM
    let script = format!(
        "trap '' TERM; sh -c 'trap \"\" TERM; echo $$ > {folder}/child; while :; do sleep 1; done' & \
         echo $$ > {folder}/own; while :; do sleep 1; done"
    );
    let hook = shell(&script).within(Duration::from_millis(700), Duration::from_millis(300));
    let result = deliver(&hook).await;
    assert_eq!(transient(result), "the program did not end within 0 s and was stopped");
    for name in ["own", "child"] {
        wait_for_end(std::fs::read_to_string(files.path(name)).unwrap().trim()).await;
    }
}

#[tokio::test]
async fn one_that_heeds_term_may_tidy_up() {
    let files = Files::new();
    let folder = files.folder().display().to_string();
    let script = format!("trap 'echo tidy > {folder}/tidy; exit 0' TERM; while :; do sleep 0.05; done");
    // waiting for the whole grace would be an hour
    let hook = shell(&script).within(Duration::from_millis(500), Duration::from_hours(1));
    transient(deliver(&hook).await);
    assert_eq!(std::fs::read_to_string(files.path("tidy")).unwrap(), "tidy\n");
}

#[tokio::test]
async fn a_hook_that_is_dropped_takes_its_program_along() {
    let files = Files::new();
    let script = format!("echo $$ > {}/own; while :; do sleep 1; done", files.folder().display());
    let (hook, promotion, document) = (shell(&script), promotion(), document());
    let own = files.path("own");
    tokio::select! {
        result = hook.deliver(&promotion, &document) => panic!("{result:?}"),
        () = async {
            while !std::fs::read_to_string(&own).is_ok_and(|pid| pid.ends_with('\n')) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        } => {}
    }
    wait_for_end(std::fs::read_to_string(&own).unwrap().trim()).await;
}

#[tokio::test]
async fn one_that_leaves_something_running_with_its_output_is_not_waited_for() {
    let files = Files::new();
    let script = format!("sleep 600 & echo $! > {}/left; echo started", files.folder().display());
    let result = deliver(&shell(&script)).await;
    assert_eq!(result.unwrap(), "the program ended with 0");
    wait_for_end(std::fs::read_to_string(files.path("left")).unwrap().trim()).await;
}

#[tokio::test]
async fn what_one_leaves_running_without_its_output_ends_with_it() {
    let files = Files::new();
    let script = format!("sleep 600 > /dev/null 2>&1 & echo $! > {}/left; echo started", files.folder().display());
    let result = deliver(&shell(&script)).await;
    assert_eq!(result.unwrap(), "the program ended with 0: started");
    wait_for_end(std::fs::read_to_string(files.path("left")).unwrap().trim()).await;
}
