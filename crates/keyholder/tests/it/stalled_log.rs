//! A `serve` whose log nobody takes: standard error is a full pipe.

use std::{
    io::{self, PipeWriter, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::harness::{Installation, Login, Process, Server, request};

/// Wrong logins: enough that each worker has some that it logs.
const WRONG: usize = 100;

/// Writes until nothing fits any more; the thread ends when the reader is gone.
fn fill(mut pipe: PipeWriter) -> JoinHandle<()> {
    let written = Arc::<AtomicU64>::default();
    let count = Arc::clone(&written);
    let filling = thread::spawn(move || {
        while pipe.write_all(b"\n").is_ok() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let mut last = 0;
    loop {
        thread::sleep(Duration::from_millis(300));
        let now = written.load(Ordering::SeqCst);
        if now == last && now > 0 {
            return filling;
        }
        last = now;
    }
}

#[test]
fn a_log_that_nobody_reads_holds_up_no_request_and_no_end() {
    let installation = Installation::new();
    let login = installation.add_client("app", &["--credential", "genesys", "--allow-all"]);
    let (reader, writer) = io::pipe().unwrap();
    let file = installation.path("ready.json");
    let mut command = installation.command(&["serve", "--ready-file", file.to_str().unwrap()]);
    let err = writer.try_clone().unwrap();
    let mut process = Process::start_telling(&mut command, &installation.path("serve.log"), err);
    let ready = process.ready(&file);
    let server = Server { process, ready };
    let token = server.login(&login);

    let filling = fill(writer);
    for at in 0..WRONG {
        let wrong = Login { id: format!("00000000-0000-4000-8000-{at:012}"), secret: "wrong".to_owned() };
        let answer = server.try_login(&wrong);
        assert!((400..500).contains(&answer.status), "{answer:?}");
    }
    assert_eq!(request("GET", &format!("{}/livez", server.admin()), &[], b"").status, 200);
    assert_eq!(server.call(&token, "GET", "/api/v2/users").status, 200);
    let (code, said) = server.process.stop();
    assert_eq!(code, Some(0), "{said}");
    drop(reader);
    filling.join().unwrap();
}
