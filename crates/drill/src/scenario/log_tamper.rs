// SPDX-License-Identifier: Apache-2.0
//! An intruder with a stolen key becomes root and cuts logs again and again, in place and by other files, while their daemons go
//! on writing to them: what was cut comes back, and what came meanwhile stays.

use super::persistence::{people, somewhere, weakness};
use super::{Actor, Material, Names, Plan, Scenario, Step, pace, public_key, step, units};
use crate::random::Random;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "log-tamper",
    about: "root cuts the logs of logins and of the web server, and the book of logins, while all of them are written to",
    benign: false,
    plan,
};

const AUTH: &str = "/var/log/auth.log";
const ACCESS: &str = "/var/log/nginx/access.log";
const LOGINS: &str = "/var/log/wtmp";

fn plan(random: &mut Random, _: Material<'_>) -> Plan {
    let mut names = Names::new(random);
    let (weak, escalation) = weakness(random, &mut names, "alice");
    let mut units = units();
    let mut benign = people(random, &mut names, &mut units);
    // Lines that nobody but the logs has, at every time of the attack.
    let mut lines = Vec::new();
    for _ in 0..8 {
        let (said, asked) = (random.word(12), random.word(12));
        let script = format!(
            "logger -p auth.info -t shop '{said}' && bash -c 'exec 3<>/dev/tcp/127.0.0.1/80; \
             printf \"GET /health?{asked} HTTP/1.0\\r\\n\\r\\n\" >&3; cat <&3 >/dev/null'"
        );
        let logs = vec![AUTH.to_owned(), ACCESS.to_owned()];
        benign.push(Step { logs, ..step(Actor::Bob, "bob says something, and asks for a page", script, &[]) });
        lines.extend([(AUTH.to_owned(), said), (ACCESS.to_owned(), asked)]);
    }
    random.shuffle(&mut benign);
    pace(&mut benign, random, 450);
    let mut attack_root = intruder(random, &mut names);
    pace(&mut attack_root, random, 600);
    Plan {
        planted: vec![weak, (LOGINS.to_owned(), ["alice", "ops", "alice", "bob"].map(login).concat(), 0o664, 0)],
        decoys: true,
        escalation,
        source: somewhere(random),
        benign,
        attack_user: vec![step(Actor::Intruder, "the intruder looks around", "id; sudo -n -l", &[])],
        attack_root,
        units,
        // What a daemon writes to a file that was replaced, before it is told to open the log again, is nowhere at the path.
        shared: vec![AUTH.to_owned(), ACCESS.to_owned()],
        lines,
        named: vec!["T1098.004", "T1070.002", "T1070.003"],
        ..Plan::default()
    }
}

/// A login in the book of logins: `struct utmp`, 384 bytes.
fn login(user: &str) -> String {
    let fixed = |text: &str, bytes: usize| format!("{text}{}", "\0".repeat(bytes - text.len()));
    // Type 7 and a pid; line, id, user, host; what is left.
    format!(
        "\x07\0\0\0\x2a\0\0\0{}{}{}{}{}",
        fixed("pts/0", 32),
        fixed("ts/0", 4),
        fixed(user, 32),
        fixed("10.0.0.9", 256),
        "\0".repeat(52)
    )
}

fn intruder(random: &mut Random, names: &mut Names) -> Vec<Step> {
    let cut = |log: &str, script: String| Step {
        technique: Some("T1070.002"),
        logs: vec![log.to_owned()],
        ..step(Actor::Intruder, &format!("the intruder cuts {log}"), script, &[])
    };
    let in_place = |log: &str, filter: &str| cut(log, format!("t=$({filter} {log}); printf '%s\\n' \"$t\" >{log}"));
    let keep = random.between(3, 9);
    let mut cuts = vec![
        in_place(AUTH, "grep -v alice"),
        in_place(ACCESS, &format!("head -n {keep}")),
        cut(AUTH, format!("sed -i '/sudo/d' {AUTH}; systemctl kill -s HUP rsyslog")),
        cut(ACCESS, format!("sed -i '/health/d' {ACCESS}; nginx -s reopen")),
        cut(
            LOGINS,
            format!(
                "perl -e 'local $/ = \\384; open my $f, \"+<\", \"{LOGINS}\" or die; my @r = grep {{ !/alice/ }} <$f>; \
                 truncate $f, 0; seek $f, 0, 0; print $f @r'"
            ),
        ),
    ];
    random.shuffle(&mut cuts);
    let key = public_key(random, &names.take());
    let mut steps = vec![Step {
        technique: Some("T1098.004"),
        ..step(
            Actor::Intruder,
            "the intruder adds a key to root's",
            format!("echo '{key}' >>/root/.ssh/authorized_keys; chmod 600 /root/.ssh/authorized_keys"),
            &["/root/.ssh/authorized_keys"],
        )
    }];
    steps.append(&mut cuts);
    let history = "/root/.bash_history";
    let clear = step(Actor::Intruder, "the intruder clears a shell history", format!(": >{history}"), &[history]);
    steps.push(Step { technique: Some("T1070.003"), ..clear });
    steps
}
