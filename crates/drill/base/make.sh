#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes the base of all twins: a small Debian in an ext4 image, on a btrfs loop file (for reflinks), in a cache directory.
#
# Usage: make.sh [CACHE]     default: $THYMUS_CACHE, else /var/cache/thymus
# Prints the image's name (below CACHE/disk) as its last line. Does nothing when the image for this very recipe exists.
# Needs root, debootstrap, mke2fs, btrfs-progs, cc, git. Starts no service.
#
# CACHE/disk.btrfs   the loop file; mounted at CACHE/disk only while this script or a drill runs
# CACHE/lock         held (flock) by whoever uses the disk: one drill, or this script, at a time
set -eu
umask 022

SUITE=bookworm
MIRROR=${THYMUS_MIRROR:-http://deb.debian.org/debian}
PACKAGES=systemd,systemd-sysv,dbus,libpam-systemd,nginx-light,openssh-server,cron,rsyslog,logrotate,sudo,git,iproute2,procps,acl,attr,libcap2-bin,e2fsprogs,util-linux,less,openssl,nftables,fcgiwrap,sqlite3,python3,ed,net-tools,file
IMAGE_BYTES=6000M
DISK_BYTES=24G

cache=${1:-${THYMUS_CACHE:-/var/cache/thymus}}
say() { echo "base: $*" >&2; }
die() { say "$*"; exit 1; }

[ "$(id -u)" = 0 ] || die "expected root"
for tool in debootstrap mke2fs mkfs.btrfs cc git flock; do
    command -v "$tool" >/dev/null || die "cannot find \`$tool\`; run \`make setup\`"
done

packages_key=$(printf '%s %s' "$SUITE" "$PACKAGES" | sha256sum | cut -c1-12)
recipe_key=$(sha256sum <"$0" | cut -c1-12)
image=base-$recipe_key.ext4

mkdir -p "$cache"
chmod 0700 "$cache"
exec 9>"$cache/lock"
flock 9
if [ ! -e "$cache/disk.btrfs" ]; then
    say "making a disk for twins, $cache/disk.btrfs (sparse, at most $DISK_BYTES)"
    truncate -s "$DISK_BYTES" "$cache/disk.btrfs.new"
    mkfs.btrfs -q "$cache/disk.btrfs.new"
    mv "$cache/disk.btrfs.new" "$cache/disk.btrfs"
fi
disk=$cache/disk
tree=
cleanup() {
    [ -z "$tree" ] || rm -rf --one-file-system "$tree"
    umount "$disk" 2>/dev/null || true
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP
mkdir -p "$disk"
mountpoint -q "$disk" || mount -o loop,noatime "$cache/disk.btrfs" "$disk"

if [ -e "$disk/$image" ]; then
    say "$image is there already"
    echo "$image"
    exit 0
fi

debian=$disk/debian-$packages_key
if [ ! -e "$debian" ]; then
    say "fetching a small Debian ($SUITE) with debootstrap; about two minutes"
    rm -rf "$disk/debian.new"
    debootstrap --variant=minbase --include="$PACKAGES" "$SUITE" "$disk/debian.new" "$MIRROR" >"$cache/debootstrap.log" 2>&1 ||
        die "debootstrap failed; see $cache/debootstrap.log"
    rm -rf "$disk"/debian.new/var/cache/apt/archives/*.deb "$disk"/debian.new/var/lib/apt/lists/*
    mv "$disk/debian.new" "$debian"
fi

say "filling $image"
tree=$disk/tree.new
rm -rf "$tree"
cp -a --reflink=always "$debian" "$tree"
in_tree() { chroot "$tree" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C "$@"; }
# file PATH MODE [OWNER]: standard input becomes PATH
file() {
    mkdir -p "$tree/$(dirname "$1")"
    cat >"$tree/$1"
    chmod "$2" "$tree/$1"
    in_tree chown "${3:-root:root}" "/$1"
}

# --- identity: the same in every twin, so that twins differ only by what is done in them
echo 0123456789abcdef0123456789abcdef | file etc/machine-id 0444
echo shop | file etc/hostname 0644
printf '127.0.0.1 localhost shop\n' | file etc/hosts 0644
ln -sfn /usr/share/zoneinfo/Etc/UTC "$tree/etc/localtime"
mkdir -p "$tree/var/lib/machines" "$tree/var/lib/portables"
: | file etc/fstab 0644
: | file etc/resolv.conf 0644

# --- what would change files by itself, at times of its own
for unit in apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer dpkg-db-backup.timer \
    logrotate.timer man-db.timer systemd-tmpfiles-clean.timer systemd-random-seed.service getty@tty1.service \
    console-getty.service systemd-timesyncd.service systemd-networkd.service systemd-networkd-wait-online.service; do
    ln -sfn /dev/null "$tree/etc/systemd/system/$unit"
done
never='31 2' # the 31st of February: jobs of an hour would run in some twins and not in their sisters
sed -i -E "s/^([0-9]+[[:space:]]+[0-9*]+)[[:space:]]+[0-9*]+[[:space:]]+[0-9*]+([[:space:]])/\1 $never\2/" "$tree/etc/crontab" "$tree/etc/cron.d/e2scrub_all"
mkdir -p "$tree/etc/systemd/journald.conf.d"
printf '[Journal]\nStorage=volatile\nForwardToSyslog=yes\nRuntimeMaxUse=16M\n' | file etc/systemd/journald.conf.d/twin.conf 0644

# --- users
for name in ops alice bob; do in_tree useradd --create-home --shell /bin/bash "$name"; done
in_tree usermod --password '*' ops
in_tree usermod --password '*' alice
in_tree usermod --password '*' bob
printf 'ops ALL=(ALL:ALL) NOPASSWD: ALL\n' | file etc/sudoers.d/ops 0440
for name in ops alice bob; do
    install -d -m 0700 "$tree/home/$name/.ssh"
    in_tree chown "$name:$name" "/home/$name/.ssh"
done
install -d -m 0700 "$tree/root/.ssh"
printf 'ls\ncd site\ngit status\nless notes.txt\n' | file home/alice/.bash_history 0600 alice:alice
printf 'crontab -l\ndf -h\n' | file home/bob/.bash_history 0600 bob:bob
printf 'systemctl status nginx\njournalctl -u ssh\nnginx -t\n' | file root/.bash_history 0600
printf 'Call the printer people.\nAsk bob about the backups.\n' | file home/alice/notes.txt 0644 alice:alice
install -d -m 0755 "$tree/usr/local/sbin" "$tree/opt/shop"
install -d -m 0755 -o 33 -g 33 "$tree/var/www/shop/uploads"
printf '#!/bin/sh\nexec tar -C /var/www -cf /var/backups/www.tar shop\n' | file usr/local/sbin/backup-www 0755
printf "17 3 $never * tar -cf /home/bob/notes.tar /home/bob/notes 2>/dev/null\n" | file var/spool/cron/crontabs/bob 0600 bob:crontab
printf "41 4 $never * root /usr/local/sbin/backup-www\n" | file etc/cron.d/backup-www 0644

# --- a web site
{
    echo '# The shop. One listener, static pages.'
    echo 'server {'
    echo '    listen 127.0.0.1:80 default_server;'
    echo '    server_name shop;'
    echo ''
    echo '    root /var/www/shop;'
    echo '    index index.html;'
    echo ''
    echo '    # how long browsers keep pages'
    echo '    expires 10m;'
    echo ''
    echo '    location / {'
    echo '        try_files $uri $uri/ =404;'
    echo '    }'
    echo ''
    echo '    # the old catalogue moved'
    echo '    location /catalogue {'
    echo '        return 301 /products.html;'
    echo '    }'
    echo ''
    echo '    # health check'
    echo '    location = /health {'
    echo '        return 200 "ok\n";'
    echo '    }'
    echo ''
    echo '    access_log /var/log/nginx/access.log;'
    echo '    error_log /var/log/nginx/error.log;'
    echo '}'
} | file etc/nginx/sites-available/shop 0644
ln -sfn /etc/nginx/sites-available/shop "$tree/etc/nginx/sites-enabled/default"
rm -f "$tree/etc/nginx/sites-available/default"
rm -rf "$tree/var/www/html"
for page in index products about contact; do
    printf '<!doctype html>\n<title>%s</title>\n<h1>The shop: %s</h1>\n<p>Open from nine to five.</p>\n' "$page" "$page" |
        file "var/www/shop/$page.html" 0644
done
{
    echo '# Settings of the shop.'
    echo '[catalogue]'
    echo 'currency = EUR'
    echo 'page_size = 20'
    echo 'cache_seconds = 300'
    echo ''
    echo '[mail]'
    echo 'server = mail.shop.example'
    echo 'from = shop@shop.example'
    echo 'retries = 3'
    echo ''
    echo '[payment]'
    echo 'provider = bank'
    echo 'endpoint = https://pay.shop.example/v2'
    echo 'timeout_seconds = 30'
    echo ''
    echo '[log]'
    echo 'level = info'
    echo 'file = /var/log/shop.log'
} | file etc/shop/shop.conf 0644

# --- a git repository of the administrator's
mkdir -p "$tree/home/ops/infra"
printf 'The machines of the shop.\n' | file home/ops/infra/README 0644 ops:ops
printf 'nginx: shop\n' | file home/ops/infra/services 0644 ops:ops
printf '[user]\n\tname = Ops\n\temail = ops@shop.example\n[init]\n\tdefaultBranch = main\n[gc]\n\tauto = 0\n' | file home/ops/.gitconfig 0644 ops:ops
in_tree chown -R ops:ops /home/ops/infra
(
    cd "$tree/home/ops/infra"
    export GIT_CONFIG_GLOBAL="$tree/home/ops/.gitconfig" GIT_CONFIG_NOSYSTEM=1
    export GIT_AUTHOR_DATE=2026-01-05T09:00:00Z GIT_COMMITTER_DATE=2026-01-05T09:00:00Z
    git init -q --template= .
    git -c safe.directory='*' add -A
    git -c safe.directory='*' commit -q -m "first commit"
)
in_tree chown -R ops:ops /home/ops/infra

# --- ssh: keys only; the keys themselves come with each drill
printf 'PasswordAuthentication no\nUseDNS no\nPrintMotd no\nPrintLastLog no\n' | file etc/ssh/sshd_config.d/shop.conf 0644
in_tree ssh-keygen -A >/dev/null
rm -f "$tree/etc/update-motd.d/"*

# --- logs that were there before
for log in auth.log syslog; do
    for day in 1 2 3 4 5; do
        for hour in 08 11 14 17; do
            echo "2026-01-0${day}T${hour}:00:12.000000+00:00 shop sshd[4${day}${hour}]: Accepted publickey for ops from 10.0.0.${day} port 5${hour}22 ssh2: ED25519"
            echo "2026-01-0${day}T${hour}:04:31.000000+00:00 shop sudo:      ops : PWD=/home/ops ; USER=root ; COMMAND=/usr/bin/systemctl status nginx"
        done
    done | file "var/log/$log" 0640 root:adm
done
: | file var/log/wtmp 0664 root:utmp
: | file var/log/lastlog 0664 root:utmp
: | file var/log/btmp 0660 root:utmp

# --- a harmless shared object, for drills that preload one: an empty library that nothing needs
mkdir -p "$cache/parts"
echo 'void shop_part(void);void shop_part(void){}' >"$cache/parts/empty.c"
cc -shared -fPIC -nostdlib -O1 -s -Wl,--build-id=none -o "$cache/parts/empty.so" "$cache/parts/empty.c"

in_tree ldconfig
rm -rf "$tree"/var/cache/apt/* "$tree"/var/cache/debconf/*-old "$tree"/usr/share/doc/* "$tree"/usr/share/man/* \
    "$tree"/usr/share/locale/* "$tree"/var/cache/ldconfig/aux-cache "$tree"/var/lib/dbus/machine-id "$tree"/var/lib/dpkg/*-old
rm -f "$disk/image.new"
truncate -s "$IMAGE_BYTES" "$disk/image.new"
mke2fs -q -t ext4 -E lazy_itable_init=0,lazy_journal_init=0 -L thymus-twin -d "$tree" "$disk/image.new" >&2
for old in "$disk"/base-*.ext4; do [ "$old" = "$disk/$image" ] || rm -f "$old"; done
for old in "$disk"/debian-*; do [ "$old" = "$debian" ] || rm -rf "$old"; done
mv "$disk/image.new" "$disk/$image"
sync -f "$disk"
say "$image is ready"
echo "$image"
