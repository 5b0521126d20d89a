//! Under a service manager: sockets that it opened, and what it is told.

use std::{fs, os::unix::net::UnixDatagram, path::Path, process::Command, time::Duration};

use serde_json::Value;

use crate::harness::{Installation, Process, Server, eventually, keyholder, request, text};

/// Binds the sockets of `NAME=KIND` arguments, puts them at 3 and up as systemd does, and becomes the program.
const PASS_SOCKETS: &str = r#"
import fcntl, json, os, socket, sys
state, wanted, program = sys.argv[1], sys.argv[2].split(","), sys.argv[3:]
names, told, made = [], {}, []
for item in wanted:
    name, kind = item.split("=")
    if kind == "tcp":
        s = socket.socket(); s.bind(("127.0.0.1", 0)); told[name] = "127.0.0.1:%d" % s.getsockname()[1]
    elif kind == "abroad":
        s = socket.socket(); s.bind(("0.0.0.0", 0)); told[name] = "0.0.0.0"
    elif kind == "unix":
        path = os.path.join(state, name + ".sock")
        s = socket.socket(socket.AF_UNIX); s.bind(path); told[name] = path
    else:
        s = socket.socket(type=socket.SOCK_DGRAM); s.bind(("127.0.0.1", 0)); told[name] = ""
    if s.type == socket.SOCK_STREAM: s.listen(64)
    names.append(name); made.append(s)
keep = [fcntl.fcntl(s.fileno(), fcntl.F_DUPFD, 100) for s in made]
for s in made: s.close()
for at, fd in enumerate(keep): os.dup2(fd, 3 + at); os.close(fd)
with open(os.path.join(state, "sockets.json"), "w") as f: json.dump(told, f)
os.environ.update(LISTEN_FDS=str(len(keep)), LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES=":".join(names))
os.execv(program[0], program)
"#;

/// `serve` with sockets of a supervisor: `gateway=tcp,admin=unix`.
fn passed(installation: &Installation, sockets: &str) -> Command {
    let ready = installation.path("ready.json");
    fs::remove_file(&ready).ok();
    let mut command = Command::new("/usr/bin/python3");
    command.env_clear().env("USER", "tester").args(["-c", PASS_SOCKETS]).arg(installation.folder.path()).arg(sockets);
    command.arg(keyholder().get_program()).arg("--config").arg(installation.path("keyholder.toml"));
    command.args(["serve", "--ready-file"]).arg(ready);
    command
}

fn start(installation: &Installation, mut command: Command) -> Server {
    let mut process = Process::start(&mut command, &installation.path("serve.log"));
    let ready = process.ready(&installation.path("ready.json"));
    Server { process, ready }
}

fn sockets(installation: &Installation) -> Value {
    serde_json::from_slice(&fs::read(installation.path("sockets.json")).unwrap()).unwrap()
}

#[test]
fn sockets_of_a_supervisor_take_the_place_of_the_configured_addresses() {
    let installation = Installation::new();
    let login = installation.add_client("app", &["--credential", "genesys", "--allow-all"]);
    let server = start(&installation, passed(&installation, "admin=tcp,gateway=tcp,broker=tcp"));
    let told = sockets(&installation);
    for (name, member) in [("gateway", "gateway_url"), ("broker", "broker_url"), ("admin", "admin_url")] {
        assert_eq!(text(&server.ready, member), format!("http://{}", text(&told, name)));
    }
    let token = server.login(&login);
    assert_eq!(server.call(&token, "GET", "/api/v2/users?pageSize=1").status, 200);
    assert_eq!(request("GET", &format!("{}/readyz", server.admin()), &[], b"").status, 200);
    let guard = server.guard();
    let lease = request("GET", &format!("{}/v1/token/genesys", server.broker()), &[("X-Keyholder-Token", &guard)], b"");
    assert_eq!(lease.status, 200);
    assert_eq!(server.process.stop().0, Some(0));
}

#[test]
fn a_unix_socket_of_a_supervisor_serves_the_admin_listener_and_status_finds_it() {
    let installation = Installation::new();
    let server = start(&installation, passed(&installation, "admin=unix"));
    assert_eq!(text(&server.ready, "admin_url"), format!("unix:{}", installation.path("admin.sock").display()));
    let status = installation.run(&["status", "--output", "json"]).json();
    assert_eq!(status["healthy"], true, "{status}");
    assert_eq!(server.process.stop().0, Some(0));
    assert!(installation.path("admin.sock").exists(), "the supervisor's socket is not removed");
}

#[test]
fn sockets_that_cannot_be_served_are_refused() {
    let installation = Installation::new();
    for (sockets, problem) in [
        ("web=tcp", "is named \"web\", which says nothing about its use"),
        ("gateway=dgram", "is no listening stream socket"),
        ("broker=abroad", "is not a loopback address"),
        ("admin=tcp,admin=unix", "two sockets of the supervisor are named admin"),
        ("gateway-tls=tcp", "the configuration has no [gateway.tls]"),
    ] {
        let said = crate::harness::run(&mut passed(&installation, sockets), b"");
        assert_eq!(said.code, Some(2), "{sockets}: {said:?}");
        assert!(said.err.contains(problem), "{sockets}: {said:?}");
    }
}

#[test]
fn the_real_systemd_socket_activate_works() {
    let program = Path::new("/usr/bin/systemd-socket-activate");
    assert!(program.exists(), "install Debian's package systemd, or run `cargo xtask test`, which does");
    let installation = Installation::new();
    // It cannot tell which port it took, so one that is free now is named.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let ready = installation.path("ready.json");
    let mut command = Command::new(program);
    command.env_clear().args(["-l", &free, "--fdname=admin"]).arg(keyholder().get_program());
    command.arg("--config").arg(installation.path("keyholder.toml")).args(["serve", "--ready-file"]).arg(&ready);
    let mut process = Process::start(&mut command, &installation.path("serve.log"));
    // It starts the program at the first connection, which then waits in the queue until it is served.
    eventually(&true, || std::net::TcpStream::connect(&free).is_ok());
    assert_eq!(request("GET", &format!("http://{free}/livez"), &[], b"").status, 200);
    assert_eq!(text(&process.ready(&ready), "admin_url"), format!("http://{free}"));
    assert_eq!(process.stop().0, Some(0));
}

#[test]
fn the_supervisor_is_told_of_start_reload_watchdog_and_stop() {
    let installation = Installation::new();
    let path = installation.path("notify.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    let next = || {
        let mut bytes = [0; 4096];
        let length = socket.recv(&mut bytes).expect("a notification within a minute");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    // The next one that is no sign of life.
    let event = || std::iter::repeat_with(next).find(|told| told.trim() != "WATCHDOG=1").unwrap();
    let ready = installation.path("ready.json");
    let mut command = installation.command(&["serve", "--ready-file", ready.to_str().unwrap()]);
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000");
    let server = start(&installation, command);
    let told = event();
    assert!(told.contains("READY=1\n") && told.contains("STATUS=serving 2 credentials"), "{told}");
    for _ in 0..3 {
        assert_eq!(next().trim(), "WATCHDOG=1");
    }
    server.process.signal("HUP");
    let told = event();
    let since = told.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")?.parse::<u64>().ok());
    assert!(told.contains("RELOADING=1\n") && since.is_some_and(|since| since > 0), "{told}");
    let told = event();
    assert!(told.contains("READY=1\n") && told.contains("the last reload was unchanged"), "{told}");
    server.process.signal("TERM");
    assert!(event().contains("STOPPING=1\n"));
    let mut process = server.process;
    assert_eq!(process.end(), Some(0));
}
