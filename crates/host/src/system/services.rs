// SPDX-License-Identifier: Apache-2.0
//! systemd units and network services of a scope.
//!
//! `systemctl` runs inside the scope's own namespaces, without a shell, with a clean environment, a deadline and bounded output.

use super::{Error, OUR_TABLES, Probe, Ran, Result, UnitState, UnitVerb};
use crate::scope::{Scope, enter};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A unit's own stop may take its 90 s; we wait this long and say so.
const CONTROL_LIMIT: Duration = Duration::from_secs(30);
const SHOW_LIMIT: Duration = Duration::from_secs(10);
const PROBE_LIMIT: Duration = Duration::from_secs(5);
/// LIMIT: bytes read of a program's output or a service's answer.
const OUTPUT_BYTES_MAX: u64 = 1 << 20;

/// systemd's own alphabet for unit names (systemd.unit(5)), 255 bytes at most, with a suffix.
fn checked(unit: &str) -> Result<()> {
    let good = unit.len() <= 255
        && !unit.starts_with(['-', '.'])
        && unit.contains('.')
        && unit.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte));
    if good {
        return Ok(());
    }
    let output = "this is not a unit name; expected one such as `nginx.service`".to_owned();
    Err(Error::Unit { verb: "name", unit: unit.to_owned(), output })
}

/// Runs `systemctl ARGUMENTS` in the scope; gives its success and output.
fn systemctl(scope: &Scope, arguments: &[&str], limit: Duration) -> Result<(bool, String)> {
    let mut command = vec!["systemctl", "--no-pager", "--no-ask-password"];
    command.extend(arguments);
    run(scope, &command, &[], limit).map(|ran| (ran.status == 0, ran.output))
}

/// Runs a program in all of the scope's namespaces, without a shell; its output and errors, bounded, in one text.
pub(crate) fn run(scope: &Scope, words: &[&str], input: &[u8], limit: Duration) -> Result<Ran> {
    let what = || format!("`{}`", words.join(" "));
    let failed = |error: std::io::Error| Error::Probe { what: what(), why: error.to_string() };
    let Some((program, arguments)) = words.split_first() else {
        return Err(Error::Probe { what: what(), why: "there is no program to run".to_owned() });
    };
    let outside = |error: enter::Error| Error::Probe { what: what(), why: error.to_string() };
    let mut command = enter::command(scope, program, None).map_err(outside)?;
    command.args(arguments);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LANG", "C").env("SYSTEMD_COLORS", "0");
    command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    let (sender, receiver) = mpsc::channel();
    let pipes: [Option<Box<dyn Read + Send>>; 2] = [
        child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
        child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>),
    ];
    for pipe in pipes.into_iter().flatten() {
        let sender = sender.clone();
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = pipe.take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes);
            let _ = sender.send(bytes);
        });
    }
    drop(sender);
    if let Some(mut pipe) = child.stdin.take() {
        let input = input.to_owned();
        // Whoever does not read it does not keep us.
        std::thread::spawn(move || drop(pipe.write_all(&input)));
    }
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            break status;
        }
        if Instant::now() >= deadline {
            let _ = child.kill();
            let _ = child.wait();
            return Err(Error::Deadline { what: what(), limit });
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let mut output = String::new();
    for _ in 0..2 {
        // A descendant that keeps the pipe open does not keep us.
        if let Ok(bytes) = receiver.recv_timeout(Duration::from_secs(1)) {
            output.push_str(&String::from_utf8_lossy(&bytes));
        }
    }
    Ok(Ran { status: status.code().unwrap_or(-1), output })
}

pub(super) fn show(scope: &Scope, unit: &str) -> Result<UnitState> {
    checked(unit)?;
    let properties = "--property=LoadState,ActiveState,UnitFileState,MainPID,CanReload";
    let (good, output) = systemctl(scope, &["show", properties, "--", unit], SHOW_LIMIT)?;
    if !good {
        return Err(Error::Unit { verb: "show", unit: unit.to_owned(), output: output.trim().to_owned() });
    }
    let mut state = UnitState::default();
    for (name, value) in output.lines().filter_map(|line| line.split_once('=')) {
        match name {
            "LoadState" => value.clone_into(&mut state.load),
            "ActiveState" => value.clone_into(&mut state.active),
            "UnitFileState" => value.clone_into(&mut state.file),
            "MainPID" => state.main_pid = value.parse().unwrap_or(0),
            "CanReload" => state.can_reload = value == "yes",
            _ => {}
        }
    }
    Ok(state)
}

pub(super) fn control(scope: &Scope, verb: UnitVerb, unit: &str) -> Result<()> {
    let (good, output) = match verb {
        UnitVerb::DaemonReload => systemctl(scope, &[verb.name()], CONTROL_LIMIT)?,
        UnitVerb::Start
        | UnitVerb::Stop
        | UnitVerb::Enable
        | UnitVerb::Disable
        | UnitVerb::Reload
        | UnitVerb::Restart
        | UnitVerb::ResetFailed => {
            checked(unit)?;
            systemctl(scope, &[verb.name(), "--", unit], CONTROL_LIMIT)?
        }
    };
    if good {
        return Ok(());
    }
    let output: String = output.trim().chars().take(500).collect();
    Err(Error::Unit { verb: verb.name(), unit: unit.to_owned(), output })
}

/// Units that are active now, one a line as `systemctl` shows them.
pub(crate) fn active_units(scope: &Scope) -> Result<String> {
    // Not as JSON, which managers before 246 do not speak.
    let kinds = "--type=service,socket,timer,path";
    let arguments = ["list-units", kinds, "--state=active", "--plain", "--no-legend", "--full"];
    let (good, output) = systemctl(scope, &arguments, SHOW_LIMIT)?;
    if good {
        Ok(output)
    } else {
        Err(Error::Unit { verb: "list-units", unit: String::new(), output: output.trim().into() })
    }
}

/// The rules of nftables(8) without their counters, as JSON, or that they cannot be read; `None` where there is no such
/// program.
pub(crate) fn packet_filter(scope: &Scope) -> Result<Option<String>> {
    match run(scope, &["nft", "-j", "-s", "list", "ruleset"], &[], SHOW_LIMIT) {
        Ok(Ran { status: 0, output }) => Ok(Some(without_ours(output))),
        Ok(Ran { output, .. }) if output.contains("No such file") => Ok(None), // there is no such program in the scope
        Ok(Ran { .. }) => Ok(Some("unreadable".to_owned())),                   // such as a kernel without nftables
        Err(Error::Probe { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Our own tables come and go with what is blocked: they are no setting of the host's.
fn without_ours(output: String) -> String {
    let Ok(mut said) = serde_json::from_str::<serde_json::Value>(&output) else { return output };
    let Some(parts) = said.get_mut("nftables").and_then(serde_json::Value::as_array_mut) else { return output };
    let ours = |part: &serde_json::Value| {
        let of =
            |kind: &str, key: &str| part.get(kind).and_then(|found| found.get(key)).and_then(serde_json::Value::as_str);
        let named = |kind, key| of(kind, key).is_some_and(|name| OUR_TABLES.contains(&name));
        ["set", "chain", "rule"].iter().any(|kind| named(kind, "table")) || named("table", "name")
    };
    let before = parts.len();
    parts.retain(|part| !ours(part));
    if parts.len() == before { output } else { said.to_string() }
}

/// Does `work` in the scope's own network namespace, in a thread of its own, which alone enters it.
pub(crate) fn in_network<T: Send + 'static>(scope: &Scope, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let failed = |why: String| Error::Probe { what: "the network namespace".to_owned(), why };
    let network = match (scope.is_whole_host(), scope.leader()) {
        (true, _) => None,
        (false, Some(leader)) => {
            Some(File::open(format!("/proc/{leader}/ns/net")).map_err(|error| failed(error.to_string()))?)
        }
        (false, None) => return Err(failed("the scope has no init process, so no network".to_owned())),
    };
    let done = std::thread::spawn(move || -> std::result::Result<T, String> {
        if let Some(network) = network {
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(|errno| format!("cannot enter it: {errno}"))?;
        }
        Ok(work())
    });
    match done.join() {
        Ok(answer) => answer.map_err(failed),
        Err(_) => Err(failed("the thread that asked panicked".to_owned())),
    }
}

/// Asks in the scope's own network namespace.
pub(super) fn probe(scope: &Scope, probe: &Probe) -> Result<String> {
    probe_within(scope, probe, PROBE_LIMIT)
}

/// The same, with another deadline.
pub(crate) fn probe_within(scope: &Scope, probe: &Probe, limit: Duration) -> Result<String> {
    let what = format!("{probe:?}");
    let probe = probe.clone();
    let answer = in_network(scope, move || ask(&probe, limit))?;
    answer.map_err(|error| Error::Probe { what, why: error.to_string() })
}

fn ask(probe: &Probe, limit: Duration) -> std::io::Result<String> {
    let (Probe::Tcp { port } | Probe::Http { port, .. }) = probe;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    let Probe::Http { path, .. } = probe else { return Ok(format!("port {port} accepts connections")) };
    if path.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return Err(std::io::Error::other(format!("`{path}` is not a path of a request")));
    }
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\nUser-Agent: thymus\r\n\r\n")?;
    let mut line = Vec::new();
    // The status line is enough, and it is never longer than this.
    for byte in BufReader::new(stream.take(256)).bytes() {
        match byte? {
            b'\r' | b'\n' => break,
            byte => line.push(byte),
        }
    }
    let line = String::from_utf8_lossy(&line).into_owned();
    let status = line.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok());
    match status {
        Some(status) if status < 400 => Ok(format!("`GET {path}` at port {port}: {status}")),
        _ => Err(std::io::Error::other(format!("`GET {path}` at port {port} was answered by `{line}`"))),
    }
}

#[cfg(test)]
mod tests {
    use super::checked;

    #[test]
    fn only_unit_names_are_handed_to_systemctl() {
        for good in ["nginx.service", "getty@tty1.service", "a-b_c:1.timer", "dev-disk\\x2d1.mount"] {
            assert!(checked(good).is_ok(), "{good}");
        }
        for bad in
            ["", "-x.service", "nginx", "a b.service", "$(x).service", "../x.service", "a;b.service", "a/b.service"]
        {
            assert!(checked(bad).is_err(), "{bad}");
        }
    }
}
