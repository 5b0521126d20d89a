//! A real HTTP proxy: Debian's tinyproxy with a configuration of the test's own.

use std::{fs, net::TcpStream, path::PathBuf, process::Command, thread, time::Duration};

use crate::harness::Process;

/// Polls until it listens, 10 ms apart.
const POLLS: u32 = 1_000;

/// A running tinyproxy; it ends with the value.
pub(super) struct Tinyproxy {
    pub(super) port: u16,
    pub(super) process: Process,
    log: PathBuf,
}

impl Tinyproxy {
    /// Starts one that wants `user` and `password` and lets nobody connect to other ports than `to`.
    pub(super) fn start(folder: &std::path::Path, user: &str, password: &str, to: u16) -> Self {
        // free a moment ago; whoever takes it meanwhile makes the test fail and not pass
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (file, log) = (folder.join("tinyproxy.conf"), folder.join("tinyproxy.log"));
        let config = format!(
            "Port {port}\nListen 127.0.0.1\nTimeout 60\nMaxClients 50\nLogFile \"{}\"\nLogLevel Connect\n\
             BasicAuth {user} {password}\nConnectPort {to}\n",
            log.display()
        );
        fs::write(&file, config).unwrap();
        let mut command = Command::new("tinyproxy");
        command.arg("-d").arg("-c").arg(&file);
        let process = Process::start(&mut command, &folder.join("tinyproxy.out"));
        for _ in 0..POLLS {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Self { port, process, log };
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("tinyproxy does not listen: {}", process.said());
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// How many tunnels it was asked for.
    pub(super) fn tunnels(&self) -> usize {
        fs::read_to_string(&self.log).unwrap_or_default().matches("CONNECT 127.0.0.1:").count()
    }
}
