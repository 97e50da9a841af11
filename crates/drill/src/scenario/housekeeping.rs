// SPDX-License-Identifier: Apache-2.0
//! What people do to many files at once, and what only looks like ransomware or a wiper: they archive, convert, compress,
//! encrypt, clear up, and rewrite what is theirs.

use super::{Actor, Step, step};
use crate::crowd::Crowd;
use crate::random::Random;

/// Enough for each directory to hold a good many.
pub(super) const FILES: u32 = 400;

pub(super) fn crowd(random: &mut Random) -> Crowd {
    Crowd { seed: random.draw(), files: FILES, bytes: (300, 60_000) }
}

/// Each leaves what it found, but for times: the references must be comparable.
pub(super) fn steps() -> Vec<Step> {
    // The first and the second directory of a tree.
    let folder = |tree: &str, number: usize| format!("d=$(ls -d {tree}/[0-9]* | sed -n {number}p); cd \"$d\"");
    let alice = |title: &str, script: String| step(Actor::Alice, title, script, &[]);
    let bob = |title: &str, script: String| step(Actor::Bob, title, script, &[]);
    let ops = |title: &str, script: &str| step(Actor::Ops, title, script, &[]);
    vec![
        alice(
            "alice archives a folder, removes it and takes it out again",
            format!(
                "{}; n=$(basename \"$d\"); cd .. && tar -czf /tmp/$n.tgz $n && rm -rf $n && tar -xzf /tmp/$n.tgz; rm /tmp/$n.tgz",
                folder("~/documents", 1)
            ),
        ),
        alice(
            "alice encrypts what is hers, and decrypts it again",
            format!(
                "{}; for f in *; do openssl enc -aes-256-ctr -pbkdf2 -k secret -in $f -out $f.enc && rm $f; done; \
                 for f in *.enc; do openssl enc -d -aes-256-ctr -pbkdf2 -k secret -in $f -out ${{f%.enc}} && rm $f; done",
                folder("~/documents", 2)
            ),
        ),
        alice(
            "alice replaces a word in all her texts",
            "find ~/documents -type f \\( -name '*.txt' -o -name '*.md' -o -name '*.csv' \\) -exec sed -i 's/qqqqq/qqqqq/' {} +".to_owned(),
        ),
        alice(
            "alice compresses tables and unpacks them",
            "find ~/documents -type f -name '*.csv' -exec gzip -n {} + && find ~/documents -type f -name '*.csv.gz' -exec gunzip {} +"
                .to_owned(),
        ),
        alice(
            "alice copies her documents and removes the copy",
            "cp -r ~/documents ~/copy && rm -rf ~/copy".to_owned(),
        ),
        alice(
            "alice clones a repository, packs it and throws it away",
            "git init -q ~/g && cd ~/g && cp ~/documents/*/*.txt . && git add -A && \
             git -c user.name=a -c user.email=a@a commit -qm a && git gc -q --aggressive && cd ~ && rm -rf ~/g"
                .to_owned(),
        ),
        bob(
            "bob converts pictures and goes back to the old ones",
            format!(
                "{}; mkdir ~/old && cp -p *.jpg *.png ~/old/ 2>/dev/null; for f in *.jpg *.png; do [ -e $f ] || continue; \
                 perl -0777 -e 'open F,\"<\",$ARGV[0]; $_=<F>; print \"RIFF\\x10\\x20\\0\\0WEBPVP8 \", $_ ^ (\"\\x55\" x length)' $f >${{f%.*}}.webp && rm $f; \
                 done; rm -f *.webp; cp -p ~/old/* . 2>/dev/null; rm -rf ~/old",
                folder("~/pictures", 1)
            ),
        ),
        bob(
            "bob's program rewrites its databases",
            "for f in ~/pictures/*/*.sqlite; do cp -p $f $f.new && mv $f.new $f; done".to_owned(),
        ),
        ops(
            "the administrator sets owners and modes of a whole tree",
            "sudo chown -R www-data:www-data /srv/shop/orders && sudo chmod -R u+rX /srv/shop/orders /home/alice/documents",
        ),
        ops(
            "the administrator copies the orders, and removes and refills the media",
            "sudo cp -a /srv/shop/orders /srv/shop/orders.old && sudo rm -rf /srv/shop/orders.old && \
             sudo cp -a /var/www/shop/media /srv/media && sudo rm -rf /var/www/shop/media && sudo mv /srv/media /var/www/shop/media",
        ),
    ]
}
