// SPDX-License-Identifier: Apache-2.0
//! What there is to see of a twin from outside: its processes, its units, its pages.

use crate::cast::Cast;
use crate::intruder::Intruder;
use crate::scenario::Actor;
use crate::session::Session;
use crate::twin::Twin;
use crate::{Error, Result, interrupt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use thymus_engine::path::HostPath;

/// Processes of the twin that belong to the attack: in the intruder's session, or running (or interpreting) a file that the
/// attack made.
pub(crate) fn attackers_left(twin: &Twin, intruder: &Intruder) -> usize {
    let made: Vec<&HostPath> =
        intruder.truth.was.iter().filter(|(_, was)| *was == "absent").map(|(path, _)| path).collect();
    let belongs = |process: &ProcessLook| {
        let in_session = !intruder.group.is_empty() && process.group.ends_with(&intruder.group);
        in_session || process.words.iter().any(|word| made.iter().any(|path| path.as_bytes() == word.as_slice()))
    };
    processes(twin).iter().filter(|process| belongs(process)).count()
}

#[derive(Debug)]
struct ProcessLook {
    group: String,
    /// Its program and its arguments.
    words: Vec<Vec<u8>>,
    state: char,
}

fn processes(twin: &Twin) -> Vec<ProcessLook> {
    use std::os::unix::ffi::OsStrExt;
    let mut found = Vec::new();
    let mut pending = vec![twin.cgroup()];
    while let Some(directory) = pending.pop() {
        let children = std::fs::read_dir(&directory).into_iter().flatten().flatten();
        pending.extend(
            children.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()),
        );
        let pids = std::fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
        for pid in pids.lines() {
            let proc = Path::new("/proc").join(pid);
            let Ok(line) = std::fs::read(proc.join("cmdline")) else { continue };
            let mut words: Vec<Vec<u8>> = line.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
            words.extend(std::fs::read_link(proc.join("exe")).ok().map(|exe| exe.as_os_str().as_bytes().to_vec()));
            let stat = std::fs::read_to_string(proc.join("stat")).unwrap_or_default();
            let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap_or('?');
            found.push(ProcessLook { group: directory.to_string_lossy().into_owned(), words, state });
        }
    }
    found
}

/// After everything: whoever is not the intruder must be able to go on.
pub(crate) fn harmed_since(twin: &Twin, cast: Cast<'_>) -> Result<Vec<(String, String)>> {
    let mut harmed = Vec::new();
    for process in processes(twin).iter().filter(|process| process.state == 'T') {
        let line = process.words.iter().map(|word| String::from_utf8_lossy(word)).collect::<Vec<_>>().join(" ");
        harmed.push(("a process is stopped".to_owned(), line));
    }
    for unit in &cast.plan.units {
        let state = twin.inside(&["systemctl", "is-active", unit])?;
        if state.trim() != "active" {
            harmed.push((format!("unit {unit}"), state.trim().to_owned()));
        }
    }
    for port in &cast.plan.pages {
        let ask = format!(
            "exec 3<>/dev/tcp/127.0.0.1/{port} && printf 'GET /health HTTP/1.0\\r\\n\\r\\n' >&3 && head -c 12 <&3"
        );
        let answer = twin.inside(&["timeout", "5", "bash", "-c", &ask]).unwrap_or_else(|error| error.to_string());
        if !answer.ends_with(" 200") {
            harmed.push((format!("no page comes at port {port}"), answer.trim().to_owned()));
        }
    }
    for (actor, source) in [(Actor::Ops, "127.0.0.2"), (Actor::Alice, "127.0.0.3"), (Actor::Bob, "127.0.0.4")] {
        match Session::open(twin, cast.keys, actor.user(), source, "logged-in-again") {
            Ok(session) => session.close(),
            Err(Error::SessionEnded { user, why }) => harmed.push((format!("{user} cannot log in"), why)),
            Err(other) => return Err(other),
        }
    }
    Ok(harmed)
}

/// Does `what` while somebody asks the twin for pages all the time; also gives the milliseconds in which none came.
pub(crate) fn while_visited<T>(leader: u32, what: impl FnOnce() -> T) -> (T, Result<u64>) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let visitor = scope.spawn(|| visit(leader, &stop));
        let done = what();
        stop.store(true, Ordering::SeqCst);
        (done, visitor.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

fn visit(leader: u32, stop: &AtomicBool) -> Result<u64> {
    use crate::Doing;
    let path = format!("/proc/{leader}/ns/net");
    let namespace = std::fs::File::open(&path).doing("open", &path)?;
    rustix::thread::move_into_link_name_space(
        std::os::fd::AsFd::as_fd(&namespace),
        Some(rustix::thread::LinkNameSpaceType::Network),
    )
    .doing("enter", &path)?;
    let mut down = Duration::ZERO;
    let mut failing: Option<Instant> = None;
    while !stop.load(Ordering::SeqCst) {
        interrupt::check()?;
        match (page_comes(), failing) {
            (true, Some(since)) => {
                down += since.elapsed();
                failing = None;
            }
            (true, None) => {}
            (false, since) => failing = since.or_else(|| Some(Instant::now())),
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    down += failing.map_or(Duration::ZERO, |since| since.elapsed());
    Ok(u64::try_from(down.as_millis()).unwrap_or(u64::MAX))
}

fn page_comes() -> bool {
    use std::io::{Read, Write};
    let limit = Duration::from_secs(2);
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 80));
    let Ok(mut stream) = std::net::TcpStream::connect_timeout(&address, limit) else { return false };
    let mut answer = [0u8; 15];
    stream.set_read_timeout(Some(limit)).is_ok()
        && stream.write_all(b"GET / HTTP/1.0\r\nHost: shop\r\n\r\n").is_ok()
        && stream.read_exact(&mut answer).is_ok()
        && answer.starts_with(b"HTTP/1.1 200")
}
