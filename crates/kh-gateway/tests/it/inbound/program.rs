//! Servers of Debian that a test starts on free ports of loopback and ends with the value.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// A running one.
pub(super) struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Ports that were free a moment ago; whoever takes one meanwhile makes the test fail and not pass.
pub(super) fn free_ports(count: usize) -> Vec<u16> {
    let free: Vec<_> = (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
    free.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
}

impl Program {
    /// HAProxy; what it logs to its standard output is in `haproxy.log`.
    pub(super) async fn haproxy(folder: &Path, config: &str, ports: &[u16]) -> Self {
        let file = folder.join("haproxy.cfg");
        fs::write(&file, config).unwrap();
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(&file).stdout(File::create(folder.join("haproxy.log")).unwrap());
        Self::start(command, ports).await
    }

    /// nginx in one process.
    pub(super) async fn nginx(folder: &Path, http: &str, ports: &[u16]) -> Self {
        let file = folder.join("nginx.conf");
        let place = folder.display();
        let main = format!("daemon off;\nmaster_process off;\npid {place}/nginx.pid;\nevents {{}}\n");
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {place}/{kind};\n"))
            .concat();
        fs::write(&file, format!("{main}http {{\n{temporary}{http}}}\n")).unwrap();
        let mut command = Command::new("nginx");
        command.env("PATH", "/usr/sbin:/usr/bin").arg("-e").arg(folder.join("nginx.err")).arg("-c").arg(&file);
        Self::start(command, ports).await
    }

    /// Starts it and waits until it listens everywhere.
    async fn start(mut command: Command, ports: &[u16]) -> Self {
        command.stdin(Stdio::null()).stderr(Stdio::null());
        let running = Self(command.spawn().expect("the server of Debian is installed"));
        for port in ports {
            let mut listens = false;
            for _ in 0..1_000 {
                listens = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).await.is_ok();
                if listens {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert!(listens, "{command:?} listens on {port}");
        }
        running
    }
}
