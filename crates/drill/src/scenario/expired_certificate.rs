// SPDX-License-Identifier: Apache-2.0
//! The shop's web server shows a certificate that has expired: an old one was put in place, and perhaps renewed since
//! without being read.

use super::shop::{DECLARED, accident, plan as shop};
use super::{Fault, Material, Plan, Scenario};
use crate::random::Random;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "expired-certificate",
    about: "the web server shows an expired certificate: the file has to be renewed, or was, and never read since",
    benign: false,
    plan,
};

/// A key for twins alone; it protects nothing.
const KEY: &str = "-----BEGIN EC PRIVATE KEY-----\n\
    MHcCAQEEIO65IjgBM5LjrMzP9aS2aDNbQ1Fayxl+75K9XAUZFg/doAoGCCqGSM49\n\
    AwEHoUQDQgAE7fyBIRpsya+LEZy7shYge2Qekaep1xIBMt6l+d5ozagX2145+Z0l\n\
    gIqTcqya1ErGTaE4LV1ATTZX7boqbuUjpA==\n\
    -----END EC PRIVATE KEY-----\n";
/// Valid for the year 2020, and until 2099.
const EXPIRED: &str = "-----BEGIN CERTIFICATE-----\n\
    MIIBBTCBrAIBATAKBggqhkjOPQQDAjAPMQ0wCwYDVQQDDARzaG9wMB4XDTIwMDEw\n\
    MTAwMDAwMFoXDTIxMDEwMTAwMDAwMFowDzENMAsGA1UEAwwEc2hvcDBZMBMGByqG\n\
    SM49AgEGCCqGSM49AwEHA0IABO38gSEabMmvixGcu7IWIHtkHpGnqdcSATLepfne\n\
    aM2oF9teOfmdJYCKk3KsmtRKxk2hOC1dQE02V+26Km7lI6QwCgYIKoZIzj0EAwID\n\
    SAAwRQIgCWdkjvy3d6dikXIwZ41sHP1L6L1nOfqOOuHMRLaY9Y0CIQD+yGxGe6Tj\n\
    AoiU1N6XnbZOrfqOOgIQfevc5nVS59FsvQ==\n\
    -----END CERTIFICATE-----\n";
const VALID: &str = "-----BEGIN CERTIFICATE-----\n\
    MIIBBzCBrgIBAjAKBggqhkjOPQQDAjAPMQ0wCwYDVQQDDARzaG9wMCAXDTIwMDEw\n\
    MTAwMDAwMFoYDzIwOTkxMjMxMDAwMDAwWjAPMQ0wCwYDVQQDDARzaG9wMFkwEwYH\n\
    KoZIzj0CAQYIKoZIzj0DAQcDQgAE7fyBIRpsya+LEZy7shYge2Qekaep1xIBMt6l\n\
    +d5ozagX2145+Z0lgIqTcqya1ErGTaE4LV1ATTZX7boqbuUjpDAKBggqhkjOPQQD\n\
    AgNIADBFAiAZzra/AKul6jvXAkKVGBIvFEmVYV98IMVJUx4cxwiJNwIhAISC8RcI\n\
    XYGbqo0wS9vHQTPU8Lk7h2BmKYig8mx82T23\n\
    -----END CERTIFICATE-----\n";

const SITE: &str = "server {\n    listen 127.0.0.1:443 ssl;\n    server_name shop;\n    root /var/www/shop;\n\
    \x20   ssl_certificate /etc/ssl/shop/shop.crt;\n    ssl_certificate_key /etc/ssl/shop/shop.key;\n}\n";
/// What a real one fetches is here a file already.
const RENEW: &str = "#!/bin/sh\nexec cp /etc/ssl/shop/issued/shop.crt /etc/ssl/shop/shop.crt\n";
const CERTIFICATE: &str = "\n[[certificate]]\npath = \"/etc/ssl/shop/shop.crt\"\nunit = \"nginx.service\"\nport = 443\n\
    renew = [\"/usr/local/sbin/renew-shop\"]\n";

fn plan(random: &mut Random, _: Material<'_>) -> Plan {
    let renewed = random.below(2) == 0;
    let put = "cp /etc/ssl/shop/issued/old.crt /etc/ssl/shop/shop.crt; systemctl reload nginx";
    let script = match renewed {
        true => format!("{put}; sleep 0.2; /usr/local/sbin/renew-shop"),
        false => put.to_owned(),
    };
    let steps = vec![accident("an old certificate is put in place", script, &["/etc/ssl/shop/shop.crt"])];
    let root = "edit of `/etc/ssl/shop/shop.crt`".to_owned();
    let configuration = format!("{DECLARED}{CERTIFICATE}");
    let mut plan = shop(random, Fault { steps, root, configuration, ..Fault::default() });
    let planted = [
        ("/etc/ssl/shop/shop.key", KEY, 0o600),
        ("/etc/ssl/shop/shop.crt", VALID, 0o644),
        ("/etc/ssl/shop/issued/shop.crt", VALID, 0o644),
        ("/etc/ssl/shop/issued/old.crt", EXPIRED, 0o644),
        ("/etc/nginx/conf.d/shop-tls.conf", SITE, 0o644),
        ("/usr/local/sbin/renew-shop", RENEW, 0o755),
    ];
    plan.planted.extend(planted.map(|(path, text, mode)| (path.to_owned(), text.to_owned(), mode, 0)));
    plan
}
