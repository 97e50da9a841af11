// SPDX-License-Identifier: Apache-2.0
//! The one who attacks: through sshd, like everybody, with a record of what was touched.

use crate::cast::{Cast, pause, shared};
use crate::oracle::Truth;
use crate::outside::Outside;
use crate::random::Random;
use crate::relay;
use crate::scenario::{Actor, Plan, Step, Web};
use crate::session::{Session, Way};
use crate::twin::Twin;
use crate::{Error, Result, interrupt};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use thymus_engine::path::HostPath;

/// An intruder without an answer for so long has been stopped.
const STOPPED_LIMIT: Duration = Duration::from_secs(10);
/// The same of a step in which all is done that is done on the next host.
const ERRAND_LIMIT: Duration = Duration::from_secs(50);

#[derive(Debug, Default)]
pub(crate) struct Intruder {
    session: Option<Session>,
    pub(crate) truth: Truth,
    /// The cgroup that the twin's login manager gave the intruder's session.
    pub(crate) group: String,
    token: String,
    /// Secrets that were read for certain.
    pub(crate) secrets: Vec<String>,
    /// Steps that were taken to their end: techniques, and what each was to change.
    pub(crate) taken: Vec<Step>,
    /// When the first step as root was taken, boot clock, nanoseconds.
    began: u64,
}

impl Intruder {
    /// Goes on until the plan ends or the session does; the latter is what an agent is for.
    pub(crate) fn attack(
        &mut self,
        twin: &Twin,
        cast: Cast<'_>,
        turn: &Mutex<()>,
        outside: Option<&Outside>,
    ) -> Result<()> {
        let plan = cast.plan;
        if !plan.attacks() {
            return Ok(());
        }
        if let Some(relay) = cast.relay.filter(|_| plan.from_before) {
            // Whoever comes from the host before keeps the record in the name that he has there.
            self.token = token(&mut begin(cast));
            self.began = relay.attacked()?;
            return Ok(());
        }
        if let (Some(web), Some(outside)) = (&plan.web, outside) {
            return self.attack_by_requests(outside, web, cast, turn);
        }
        match self.attack_until_stopped(twin, cast, turn, outside) {
            Err(Error::SessionEnded { why, .. }) => {
                (cast.tell)(&format!("  the intruder's session is over: {why}"));
                Ok(())
            }
            other => other,
        }
    }

    fn attack_until_stopped(
        &mut self,
        twin: &Twin,
        cast: Cast<'_>,
        turn: &Mutex<()>,
        outside: Option<&Outside>,
    ) -> Result<()> {
        let mut random = begin(cast);
        let (plan, token) = (cast.plan, token(&mut random));
        self.token.clone_from(&token);
        let target = crate::outside::TWIN.to_string();
        let way = match outside {
            Some(outside) => Way { network: outside.process(), source: &plan.source, target: &target },
            None => Way { network: twin.leader(), source: &plan.source, target: "127.0.0.1" },
        };
        if let Some(knocks) = plan.knocks.as_ref().filter(|knocks| knocks.count > 0) {
            (cast.tell)(&format!("  from {}, {} keys are tried at alice's door", knocks.source, knocks.count));
            for _ in 0..knocks.count {
                interrupt::check()?;
                way.knock(twin, &cast.keys.private(Actor::Ops.user()), Actor::Intruder.user())?;
            }
        }
        (cast.tell)("  the intruder logs in with alice's key");
        let session = Session::come(twin, way, cast.keys, Actor::Intruder.user(), &random.word(10))?;
        let session = self.session.insert(session);
        let answer = session.run(&prelude(&token), STOPPED_LIMIT)?;
        self.group = answer.lines.iter().find_map(|line| line.strip_prefix("0::")).unwrap_or_default().to_owned();
        for step in &plan.attack_user {
            take(session, step, cast, turn, &token, &mut self.truth)?;
            self.secrets.extend_from_slice(&step.secrets);
        }
        (cast.tell)(&format!("  the intruder becomes root: {}", plan.escalation));
        session.become_shell(&plan.escalation, STOPPED_LIMIT)?;
        let who = session.run(&format!("{}; id -u", prelude(&token)), STOPPED_LIMIT)?;
        if who.lines.last().map(String::as_str) != Some("0") {
            return Err(Error::Benign { step: plan.escalation.clone(), why: "gave no root shell".to_owned() });
        }
        self.began = boot_clock_ns();
        for step in &plan.attack_root {
            take(session, step, cast, turn, &token, &mut self.truth)?;
            self.secrets.extend_from_slice(&step.secrets);
            self.taken.push(step.clone());
        }
        Ok(())
    }

    /// The first two steps go through the hole in the site, the others through what they left there. Goes on until the
    /// plan ends, or a request is not answered to its end.
    fn attack_by_requests(&mut self, outside: &Outside, web: &Web, cast: Cast<'_>, turn: &Mutex<()>) -> Result<()> {
        let (plan, token) = (cast.plan, token(&mut begin(cast)));
        self.token.clone_from(&token);
        self.began = boot_clock_ns();
        let record = plan.record.as_deref().unwrap_or("/dev/null");
        // Whoever becomes root writes where another began: not in a directory that everybody may write to.
        let books = record.rsplit_once('/').map_or("/dev/shm", |(directory, _)| directory);
        let as_root = |script: &str| format!("{} <<'AS_ROOT'\n{script}\nAS_ROOT\n", plan.escalation);
        let user = plan.attack_user.iter().map(|step| (step, false));
        let root = plan.attack_root.iter().map(|step| (step, true));
        (cast.tell)(&format!("  the intruder comes from {}, by requests to the site", web.source));
        for (number, (step, is_root)) in user.chain(root).enumerate() {
            pause(step.pause)?;
            interrupt::check()?;
            (cast.tell)(&format!("  {} ({})", step.title, step.technique.unwrap_or("-")));
            let paths = step.paths.join(" ");
            let (doing, limit) = match plan.next.as_ref().filter(|_| step.goes_on) {
                Some(next) => {
                    if let Some(relay) = cast.relay {
                        relay.goes_on(boot_clock_ns());
                    }
                    let errand = relay::errand(next, &token, &prelude(&token));
                    (format!("{} <<'THERE'\n{errand}THERE", step.script), ERRAND_LIMIT)
                }
                None => (step.script.clone(), STOPPED_LIMIT),
            };
            let script = format!(
                "mkdir -p {books}; umask 0; {}\nsay was {paths} >>{record}\numask 22\n{{ {doing}\n}} </dev/null\nsay now {paths} >>{record}\necho {token} done",
                prelude(&token),
            );
            let script = if is_root { as_root(&script) } else { script };
            let request = if number < 2 { injected(&script) } else { sent(&web.shell, &script) };
            let held = shared(plan, step).then(|| turn.lock().unwrap_or_else(PoisonError::into_inner));
            let answer = outside.ask(web.source, 8000, &request, limit);
            drop(held);
            let over = match answer {
                Ok(answer) if answer.contains(&format!("{token} done")) => {
                    self.secrets.extend_from_slice(&step.secrets);
                    self.taken.push(step.clone());
                    None
                }
                Ok(answer) => Some(answer.lines().last().unwrap_or("no answer").to_owned()),
                Err(error) => Some(error.to_string()),
            };
            if let Some(why) = over {
                (cast.tell)(&format!("  the intruder's requests are not answered any more: {why}"));
                return Ok(());
            }
        }
        Ok(())
    }

    /// When the first step was taken that its record has no time of, boot clock, nanoseconds.
    pub(crate) fn began(&self) -> u64 {
        self.began
    }

    /// The twin boots again: what has the session's name then is another.
    pub(crate) fn forget_session(&mut self) {
        self.group.clear();
    }

    /// What a program of the intruder's that has no session wrote down, in the running twin.
    pub(crate) fn read_record(&mut self, twin: &Twin, path: &str) {
        let record = std::fs::read(format!("/proc/{}/root{path}", twin.leader())).unwrap_or_default();
        // When each line was written is not known: the worst is taken, the beginning.
        let began = self.began;
        for line in String::from_utf8_lossy(&record).lines() {
            if let Some(group) = line.strip_prefix(&format!("{} in ", self.token)) {
                group.trim_end_matches(" /").clone_into(&mut self.group);
            }
            note(line, &self.token, began, &mut self.truth);
        }
    }

    /// Of one who came from the host before: the steps of which the record has the end.
    pub(crate) fn take_from_record(&mut self, plan: &Plan) {
        let has = |path: &String| self.truth.now.contains_key(&HostPath::from(path.as_str()));
        let steps = plan.attack_user.iter().chain(&plan.attack_root);
        self.taken = steps.filter(|step| !step.paths.is_empty() && step.paths.iter().all(has)).cloned().collect();
    }

    pub(crate) fn leave(&mut self) {
        if let Some(session) = self.session.take() {
            session.close();
        }
    }
}

/// What the intruder's own choices are drawn from.
fn begin(cast: Cast<'_>) -> Random {
    Random::new(cast.seed ^ 0x6174_7461_636b_2121)
}

/// By which the lines of the record are known.
fn token(random: &mut Random) -> String {
    random.word(10)
}

/// A question about the stock that ends early and goes on as a command.
fn injected(script: &str) -> Vec<u8> {
    let item = format!("x\" /dev/null; {script}\n: \"");
    let item: String = item.bytes().map(|byte| format!("%{byte:02x}")).collect();
    format!("GET /cgi-bin/stock?item={item} HTTP/1.0\r\nHost: shop\r\n\r\n").into_bytes()
}

fn sent(shell: &str, script: &str) -> Vec<u8> {
    let length = script.len();
    format!("POST /{shell} HTTP/1.0\r\nHost: shop\r\nContent-Length: {length}\r\n\r\n{script}").into_bytes()
}

/// Functions by which the intruder's shell keeps the drill's record of what it touches.
pub(crate) fn prelude(token: &str) -> String {
    format!(
        "state() {{ if [ -L \"$1\" ]; then printf 'L:%s' \"$(readlink \"$1\")\"; \
         elif [ -f \"$1\" ]; then printf '%s:%s' \"$(stat -c %f:%u:%g:%h \"$1\")\" \"$(sha256sum <\"$1\" | cut -c1-32)\"; \
         elif [ -e \"$1\" ]; then stat -c %f:%u:%g \"$1\" | tr -d '\\n'; else printf absent; fi; }}\n\
         say() {{ w=$1; shift; for p; do printf '%s %s %s %s\\n' {token} \"$w\" \"$(state \"$p\")\" \"$p\"; done; }}\n\
         log() {{ for p; do printf '%s log %s %s\\n' {token} \"$(base64 -w0 \"$p\")\" \"$p\"; done; }}\n\
         RECORD={token}; export RECORD; cat /proc/self/cgroup"
    )
}

fn take(
    session: &mut Session,
    step: &Step,
    cast: Cast<'_>,
    turn: &Mutex<()>,
    token: &str,
    truth: &mut Truth,
) -> Result<()> {
    pause(step.pause)?;
    (cast.tell)(&format!("  {} ({})", step.title, step.technique.unwrap_or("-")));
    let (paths, logs) = (step.paths.join(" "), step.logs.join(" "));
    let script = format!("say was {paths} {logs}\nlog {logs}\n{}\nsay now {paths} {logs}", step.script);
    let held = shared(cast.plan, step).then(|| turn.lock().unwrap_or_else(PoisonError::into_inner));
    // Heard line by line: whoever is stopped in the middle has told what came before.
    let said = session.run_heard(&script, STOPPED_LIMIT, &mut |line| note(line, token, boot_clock_ns(), truth));
    drop(held);
    said.map(drop)
}

/// One line of the record.
pub(crate) fn note(line: &str, token: &str, at: u64, truth: &mut Truth) {
    let Some(line) = line.strip_prefix(token) else { return };
    let mut words = line.trim_start().splitn(3, ' ');
    let (Some(word), Some(state), Some(path)) = (words.next(), words.next(), words.next()) else { return };
    let path = HostPath::from(path);
    match word {
        "was" => drop(truth.was.entry(path).or_insert_with(|| state.to_owned())),
        "now" => {
            truth.touched.insert(path.clone(), at);
            truth.now.insert(path, state.to_owned());
        }
        "log" => drop(truth.logs.entry(path).or_insert_with(|| unprinted(state))),
        _ => {}
    }
}

/// Base64, as `base64 -w0` writes it; what is no digit ends it.
fn unprinted(text: &str) -> Vec<u8> {
    let digits = text.bytes().map_while(|byte| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    });
    let (mut bits, mut count, mut bytes) = (0u32, 0, Vec::new());
    for digit in digits {
        bits = bits << 6 | u32::from(digit);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff).to_le_bytes()[0]);
        }
    }
    bytes
}

/// `CLOCK_BOOTTIME`, as the agent's times.
pub(crate) fn boot_clock_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    part(now.tv_sec) * 1_000_000_000 + part(now.tv_nsec)
}
