// SPDX-License-Identifier: Apache-2.0
//! Everything that looks like an attack and is none: an administrator, a package, users in their own homes. Nothing may be done about it.

use super::{Actor, Material, Names, Plan, Scenario, Step, housekeeping, pace, public_key, step};
use crate::random::Random;
use std::time::Duration;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "benign",
    about: "every legitimate look-alike: keys, units, cron, setuid, accounts, PAM, sshd, profile, packages, log rotation; many files archived, encrypted, converted and cleared up by their owners",
    benign: true,
    plan,
};

/// How long one round of work takes in a soak.
const ROUND: Duration = Duration::from_secs(60);

fn plan(random: &mut Random, material: Material<'_>) -> Plan {
    let mut names = Names::new(random);
    let rounds = material.soak.map_or(1, |soak| (soak.as_secs() / ROUND.as_secs()).max(1));
    let mut benign = Vec::new();
    let mut units: Vec<String> = ["nginx", "ssh", "cron", "rsyslog", "parcels"].map(str::to_owned).into();
    for round in 0..rounds {
        let mut steps = work(random, &mut names, round, &mut units);
        steps.append(&mut housekeeping::steps());
        random.shuffle(&mut steps);
        pace(&mut steps, random, 400);
        if material.soak.is_some() {
            let each = ROUND.as_millis() / (steps.len() as u128 + 1);
            let each = u64::try_from(each).unwrap_or(0);
            for step in &mut steps {
                step.pause = Duration::from_millis(random.between(each / 2, each));
            }
        }
        benign.append(&mut steps);
    }
    Plan {
        // A service that runs before the agent does, and belongs to a package later.
        planted: [
            ("/usr/sbin/parcels", "#!/bin/sh\nwhile sleep 30; do :; done\n", 0o755),
            ("/etc/systemd/system/parcels.service", "[Service]\nExecStart=/usr/sbin/parcels\n", 0o644),
            ("/etc/systemd/system/multi-user.target.d/parcels.conf", "[Unit]\nWants=parcels.service\n", 0o644),
        ]
        .map(|(path, text, mode)| (path.to_owned(), text.to_owned(), mode, 0))
        .into(),
        crowd: Some(housekeeping::crowd(random)),
        decoys: true,
        source: "127.0.0.66".to_owned(),
        benign,
        units,
        ..Plan::default()
    }
}

fn work(random: &mut Random, names: &mut Names, round: u64, units: &mut Vec<String>) -> Vec<Step> {
    let ops = |title: &str, script: String, paths: &[&str]| step(Actor::Ops, title, script, paths);
    let mut steps = Vec::new();

    let key = public_key(random, "ops@console");
    steps.push(ops(
        "the administrator adds keys to his account and root's",
        format!(
            "echo '{key}' >>~/.ssh/authorized_keys; echo '{key}' | sudo tee -a /root/.ssh/authorized_keys >/dev/null"
        ),
        &["/home/ops/.ssh/authorized_keys", "/root/.ssh/authorized_keys"],
    ));

    let unit = names.take();
    steps.push(ops(
        "the administrator installs a service and a timer",
        format!(
            "printf '#!/bin/sh\\nwhile sleep 20; do :; done\\n' | sudo tee /usr/local/sbin/{unit} >/dev/null && sudo chmod 755 /usr/local/sbin/{unit} && \
             printf '[Service]\\nExecStart=/usr/local/sbin/{unit}\\n[Install]\\nWantedBy=multi-user.target\\n' | sudo tee /etc/systemd/system/{unit}.service >/dev/null && \
             printf '[Timer]\\nOnActiveSec=1h\\nUnit={unit}.service\\n[Install]\\nWantedBy=timers.target\\n' | sudo tee /etc/systemd/system/{unit}.timer >/dev/null && \
             sudo systemctl daemon-reload && sudo systemctl enable --now {unit}.service {unit}.timer"
        ),
        &[&format!("/etc/systemd/system/{unit}.service"), &format!("/etc/systemd/system/{unit}.timer"), &format!("/usr/local/sbin/{unit}")],
    ));
    units.push(unit);

    let job = names.take();
    steps.push(ops(
        "the administrator adds cron lines",
        format!(
            "echo '{} 4 * * * root true' | sudo tee /etc/cron.d/{job} >/dev/null; echo '{} 5 * * * root true' | sudo tee -a /etc/crontab >/dev/null",
            random.below(60),
            random.below(60)
        ),
        &[&format!("/etc/cron.d/{job}"), "/etc/crontab"],
    ));

    let tool = names.take();
    steps.push(ops(
        "the administrator installs a setuid tool and a capability",
        format!(
            "sudo install -m 4755 /usr/bin/id /usr/local/bin/{tool} && sudo cp /usr/bin/uptime /usr/local/bin/{tool}-up && sudo setcap cap_net_raw=ep /usr/local/bin/{tool}-up"
        ),
        &[&format!("/usr/local/bin/{tool}"), &format!("/usr/local/bin/{tool}-up")],
    ));

    let (user, uid) = (random.word(7), 2000 + round);
    steps.push(ops(
        "the administrator makes an account",
        format!("sudo useradd -m -u {uid} -s /bin/bash {user} && sudo usermod -aG sudo {user}"),
        &["/etc/passwd", "/etc/shadow", "/etc/group", "/etc/gshadow"],
    ));
    steps.push(ops(
        "the administrator changes PAM, sshd and the profile",
        format!(
            "echo '# round {round}' | sudo tee -a /etc/pam.d/su >/dev/null; echo 'ClientAliveInterval {}' | sudo tee -a /etc/ssh/sshd_config >/dev/null; \
             sudo systemctl reload ssh; echo 'export SHOP={round}' | sudo tee /etc/profile.d/shop.sh >/dev/null",
            random.between(30, 300)
        ),
        &["/etc/pam.d/su", "/etc/ssh/sshd_config", "/etc/profile.d/shop.sh"],
    ));

    let package = names.take();
    steps.push(ops(
        "the administrator installs a package",
        format!(
            "d=$(mktemp -d) && mkdir -p $d/p/DEBIAN $d/p/usr/bin $d/p/lib/systemd/system && \
             printf 'Package: {package}\\nVersion: 1.{round}\\nArchitecture: all\\nMaintainer: Ops <ops@shop.example>\\nDescription: a part of the shop\\n' >$d/p/DEBIAN/control && \
             printf '#!/bin/sh\\nchmod 4755 /usr/bin/{package}\\n' >$d/p/DEBIAN/postinst && chmod 755 $d/p/DEBIAN/postinst && \
             cp /usr/bin/id $d/p/usr/bin/{package} && printf '[Service]\\nExecStart=/usr/bin/{package}\\n' >$d/p/lib/systemd/system/{package}.service && \
             dpkg-deb --root-owner-group -b $d/p $d/p.deb && sudo dpkg -i $d/p.deb; s=$?; rm -rf $d; exit $s",
        )
        .replace("exit $s", "(exit $s)"),
        &[&format!("/usr/bin/{package}")],
    ));
    steps.push(ops(
        "the administrator rotates the logs and clears his history",
        "sudo logrotate -f /etc/logrotate.d/rsyslog; rm -f ~/.bash_history".to_owned(),
        &[],
    ));
    steps.push(ops(
        "the administrator deploys pages",
        format!(
            "sudo cp -a /var/www/shop /var/www/shop.new && sudo sed -i 's/five/{}/' /var/www/shop.new/*.html && \
             sudo mv /var/www/shop /var/www/shop.old && sudo mv /var/www/shop.new /var/www/shop && sudo rm -rf /var/www/shop.old && sudo systemctl reload nginx",
            random.word(4)
        ),
        &["/var/www/shop/index.html"],
    ));
    steps.push(ops(
        "the administrator stops a service, starts it again later, and restarts another",
        "sudo systemctl stop cron && sleep 4 && sudo systemctl start cron && sudo systemctl restart rsyslog".to_owned(),
        &[],
    ));
    steps.push(ops(
        "the administrator ends a daemon by hand and starts it again",
        "sudo pkill -x cron; sleep 3; sudo systemctl start cron".to_owned(),
        &[],
    ));
    steps.push(ops(
        "the administrator gives the web server a start that takes its time",
        format!(
            "sudo mkdir -p /etc/systemd/system/nginx.service.d && printf '[Service]\\nExecStartPre=/bin/sleep {}\\n' | \
             sudo tee /etc/systemd/system/nginx.service.d/slow.conf >/dev/null && sudo systemctl daemon-reload && sudo systemctl restart nginx",
            random.between(3, 7)
        ),
        &["/etc/systemd/system/nginx.service.d/slow.conf"],
    ));
    steps.push(ops(
        "the administrator mistypes an edit, sees it in the test and mends it",
        "sudo sed -i 's/expires 10m/expire 10m/' /etc/nginx/sites-available/shop; sudo nginx -t -q 2>/dev/null; sleep 3; \
         sudo sed -i 's/expire 10m/expires 10m/' /etc/nginx/sites-available/shop; sudo nginx -t -q && sudo systemctl reload nginx"
            .to_owned(),
        &[],
    ));
    steps.push(ops(
        "the administrator tries a unit that fails, and takes it away again",
        "printf '[Service]\\nExecStart=/bin/false\\n' | sudo tee /etc/systemd/system/trial.service >/dev/null && sudo systemctl daemon-reload; \
         sudo systemctl start trial; sleep 2; sudo systemctl reset-failed trial; sudo rm /etc/systemd/system/trial.service; sudo systemctl daemon-reload"
            .to_owned(),
        &[],
    ));
    steps.push(ops(
        "the administrator upgrades a package whose service runs",
        format!(
            "d=$(mktemp -d) && mkdir -p $d/p/DEBIAN $d/p/usr/sbin && \
             printf 'Package: parcels\\nVersion: 2.{round}\\nArchitecture: all\\nMaintainer: Ops <ops@shop.example>\\nDescription: parcels of the shop\\n' >$d/p/DEBIAN/control && \
             printf '#!/bin/sh\\nsystemctl stop parcels\\n' >$d/p/DEBIAN/preinst && printf '#!/bin/sh\\nsleep 2; systemctl start parcels\\n' >$d/p/DEBIAN/postinst && \
             chmod 755 $d/p/DEBIAN/preinst $d/p/DEBIAN/postinst && printf '#!/bin/sh\\n# {round}\\nwhile sleep 30; do :; done\\n' >$d/p/usr/sbin/parcels && \
             chmod 755 $d/p/usr/sbin/parcels && dpkg-deb --root-owner-group -b $d/p $d/p.deb && sudo dpkg -i $d/p.deb; s=$?; rm -rf $d; (exit $s)"
        ),
        &["/usr/sbin/parcels"],
    ));
    steps.push(step(
        Actor::Bob,
        "bob changes his own key, crontab and profile",
        format!(
            "echo '{}' >>~/.ssh/authorized_keys; (crontab -l; echo '{} 6 * * * true') | crontab -; echo 'export N={round}' >>~/.profile",
            public_key(random, "bob@laptop"),
            random.below(60)
        ),
        &["/home/bob/.ssh/authorized_keys", "/home/bob/.profile"],
    ));
    steps.push(step(
        Actor::Alice,
        "alice unpacks, runs and removes a tool of her own",
        format!(
            "mkdir -p ~/w && cd ~/w && printf '#!/bin/sh\\necho {0}\\n' >t && chmod 755 t && tar -cf t.tar t && rm t && tar -xf t.tar && ./t && rm -rf ~/w && echo {0} >>~/notes.txt",
            random.word(5)
        ),
        &["/home/alice/notes.txt"],
    ));
    steps
}
