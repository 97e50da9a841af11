// SPDX-License-Identifier: Apache-2.0
//! The rest of the world: a network of its own beside a twin, from where customers and intruders come, and where they are
//! called back. One cable leads from it into the twin, and none anywhere else; where a drill has two twins, one into each,
//! and they reach each other by them.

use crate::scenario::Plan;
use crate::twin::Twin;
use crate::{Doing, Error, Result, output, wait_until};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::{Child, Stdio};
use std::time::Duration;

/// The twin's own address on the cable.
pub const TWIN: Ipv4Addr = Ipv4Addr::new(10, 66, 0, 1);
/// That of the second twin.
pub const NEXT: Ipv4Addr = Ipv4Addr::new(10, 66, 0, 251);
/// Hosts outside are 10.66.0.2 to 10.66.0.250.
pub const HOSTS: std::ops::RangeInclusive<u8> = 2..=250;
/// Waits on the kernel.
const MAKE_LIMIT: Duration = Duration::from_secs(20);
const CALL_LIMIT: Duration = Duration::from_secs(5);

/// A host outside.
#[must_use]
pub fn host(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 66, 0, number)
}

/// Gone with the twin: the process that holds the network open is one of its tools.
#[derive(Debug)]
pub(crate) struct Outside {
    holder: Child,
}

impl Outside {
    /// What a plan needs of it, if anything.
    pub(crate) fn of(plan: &Plan, twins: &[Twin]) -> Result<Option<Self>> {
        let listening = match (&plan.web, &plan.knocks) {
            (Some(web), _) => &web.called,
            (None, Some(knocks)) => &knocks.called,
            (None, None) => return Ok(None),
        };
        let Some((first, next)) = twins.split_first() else { return Ok(None) };
        Self::beside(first, next.first(), listening).map(Some)
    }

    /// The cables are in when this returns. Outside, the `listening` accept whoever calls and read what they are sent.
    pub(crate) fn beside(twin: &Twin, next: Option<&Twin>, listening: &[(Ipv4Addr, u16)]) -> Result<Self> {
        let mut unshare = twin.tool("unshare");
        unshare.args(["--net", "sleep", "infinity"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let holder = unshare.spawn().map_err(|source| Error::Spawn { program: "unshare".into(), source })?;
        let outside = Self { holder };
        let of = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net")).ok();
        let (here, there) = (of("self"), outside.process().to_string());
        wait_until("there is a network outside", MAKE_LIMIT, || of(&there).is_some_and(|found| Some(found) != here))?;

        let run = |network: &str, words: &[&str]| {
            output(twin.tool("nsenter").args(["-t", network, "-n", "ip"]).args(words)).map(drop)
        };
        run(&there, &["link", "set", "lo", "up"])?;
        let street = if next.is_some() { "street" } else { "cable" };
        if next.is_some() {
            run(&there, &["link", "add", street, "type", "bridge"])?;
            run(&there, &["link", "set", street, "up"])?;
        }
        for (twin, address, cable) in [(Some(twin), TWIN, "cable"), (next, NEXT, "cable-next")] {
            let Some(twin) = twin else { continue };
            let inside = twin.leader().to_string();
            run(&inside, &["link", "add", "uplink", "type", "veth", "peer", "name", cable, "netns", &there])?;
            run(&inside, &["address", "add", &format!("{address}/24"), "dev", "uplink"])?;
            run(&inside, &["link", "set", "uplink", "up"])?;
            if next.is_some() {
                run(&there, &["link", "set", cable, "master", street])?;
            }
            run(&there, &["link", "set", cable, "up"])?;
        }
        // One batch: there are many.
        let lines: String = HOSTS.map(|number| format!("address add {}/24 dev {street}\n", host(number))).collect();
        let mut ip = twin.tool("nsenter");
        ip.args(["-t", &there, "-n", "ip", "-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut ip = ip.spawn().map_err(|source| Error::Spawn { program: "ip".into(), source })?;
        if let Some(mut input) = ip.stdin.take() {
            input.write_all(lines.as_bytes()).doing("write to", "ip")?;
        }
        let status = ip.wait().doing("wait for", "ip")?;
        if !status.success() {
            return Err(Error::Failed { program: "ip".into(), status: status.to_string(), output: String::new() });
        }
        for (address, port) in listening {
            outside.listen(*address, *port)?;
        }
        Ok(outside)
    }

    /// A process in that network.
    pub(crate) fn process(&self) -> u32 {
        self.holder.id()
    }

    /// Until the twin is gone, and with it everybody who calls.
    fn listen(&self, address: Ipv4Addr, port: u16) -> Result<()> {
        let listener = within(self.process(), move || TcpListener::bind((address, port)))?;
        std::thread::spawn(move || {
            for caller in listener.incoming() {
                let Ok(mut caller) = caller else { return };
                std::thread::spawn(move || {
                    // A caller that is cut off says nothing more.
                    let _ = caller.set_read_timeout(Some(Duration::from_secs(60)));
                    let _ = io::copy(&mut caller, &mut io::sink());
                });
            }
        });
        Ok(())
    }

    /// What a host outside is answered to one request to the twin; the whole answer, or as much as came within `limit`.
    pub(crate) fn ask(&self, from: Ipv4Addr, port: u16, request: &[u8], limit: Duration) -> io::Result<String> {
        let request = request.to_vec();
        within_io(self.process(), move || {
            let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None)?;
            rustix::net::bind(&socket, &SocketAddr::from((from, 0)))?;
            rustix::net::sockopt::set_socket_timeout(&socket, rustix::net::sockopt::Timeout::Send, Some(limit))?;
            rustix::net::connect(&socket, &SocketAddr::from((TWIN, port)))?;
            let mut stream = TcpStream::from(socket);
            stream.set_read_timeout(Some(limit))?;
            stream.write_all(&request)?;
            let mut answer = Vec::new();
            let read = stream.take(1 << 20).read_to_end(&mut answer);
            match read {
                Err(error) if answer.is_empty() => Err(error),
                _ => Ok(String::from_utf8_lossy(&answer).into_owned()),
            }
        })
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        // It is ours and is not waited for anywhere else.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Whether the twin itself can call this host outside.
pub(crate) fn can_call(twin: &Twin, address: Ipv4Addr, port: u16) -> bool {
    let call = move || TcpStream::connect_timeout(&SocketAddr::from((address, port)), CALL_LIMIT).map(drop);
    within_io(twin.leader(), call).is_ok()
}

/// In the network namespace of that process, in a thread of its own.
fn within_io<T: Send + 'static>(process: u32, work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let namespace = File::open(format!("/proc/{process}/ns/net"))?;
    let thread = std::thread::spawn(move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        work()
    });
    thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that went in panicked")))
}

fn within<T: Send + 'static>(process: u32, work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T> {
    within_io(process, work).doing("enter the network of", process.to_string())
}
