// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
// Connections and listeners of TCP: who connected, accepted or listened, and what went over it when it is over.
#pragma once
#include "../record.h"

#define SOCK_STREAM 1
#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define TCP_ESTABLISHED 1
#define TCP_SYN_SENT 2
#define TCP_CLOSE 7
#define TCP_CLOSE_WAIT 8
#define TCP_LISTEN 10
#define ECONNREFUSED 111
#define SOCK_DONE 2 // the peer has ended its half; bit 1 of `skc_flags`

// `activity_id` of OCSF's class 4001.
enum activity { ACTIVITY_OPEN = 1, ACTIVITY_CLOSE = 2, ACTIVITY_FAIL = 4, ACTIVITY_REFUSE = 5, ACTIVITY_LISTEN = 7 };

// As Flow in wire.rs. An address of IPv4 takes the first four bytes.
struct flow {
    u8 local[16], remote[16];
    u64 sent, received;         // bytes of content
    u16 local_port, remote_port; // 0: a listener has no peer
    u8 family;                  // 4 or 6
    u8 inbound, before, reserved;
};
_Static_assert(sizeof(struct flow) == 56, "as Flow in wire.rs");

// One record, on the stack: state changes also come in interrupts, when the shared room may be in use.
struct told { struct head head; struct flow flow; };
_Static_assert(sizeof(struct told) == RECORD_HEAD + sizeof(struct flow), "no room between them");

struct connection { struct told told; u64 state; };
// LIMIT: connections and listeners whose end will be told; beyond it the one unused for longest ends untold.
struct { __uint(type, BPF_MAP_TYPE_LRU_HASH); __uint(max_entries, 16384); __type(key, u64); __type(value, struct connection); } connections SEC(".maps");

static __always_inline bool is_stream(struct sock *sock)
{
    u16 family = BPF_CORE_READ(sock, __sk_common.skc_family);
    return (family == AF_INET || family == AF_INET6) && BPF_CORE_READ(sock, sk_protocol) == IPPROTO_TCP;
}

static __always_inline void fill_flow(struct flow *flow, struct sock *sock)
{
    flow->local_port = BPF_CORE_READ(sock, __sk_common.skc_num);
    flow->remote_port = __builtin_bswap16(BPF_CORE_READ(sock, __sk_common.skc_dport));
    if (BPF_CORE_READ(sock, __sk_common.skc_family) == AF_INET) {
        flow->family = 4;
        BPF_CORE_READ_INTO(&flow->local, sock, __sk_common.skc_rcv_saddr);
        BPF_CORE_READ_INTO(&flow->remote, sock, __sk_common.skc_daddr);
    } else {
        flow->family = 6;
        BPF_CORE_READ_INTO(&flow->local, sock, __sk_common.skc_v6_rcv_saddr);
        BPF_CORE_READ_INTO(&flow->remote, sock, __sk_common.skc_v6_daddr);
    }
}

static __always_inline void tell_flow(struct connection *connection, u32 activity)
{
    struct head *head = &connection->told.head;
    head->time = head->enter = bpf_ktime_get_boot_ns();
    head->nr = activity;
    tell(&connection->told, sizeof connection->told, KIND_FLOW);
}

// `task` has it from now on. False: it is the agent's, or `how` does not allow it.
static __always_inline bool
take(struct connection *connection, struct task_struct *task, struct sock *sock, u32 state, u64 how)
{
    u64 key = (u64)sock;
    fill_head(&connection->told.head, task, KIND_FLOW);
    connection->told.head.text_bytes = sizeof(struct flow);
    fill_flow(&connection->told.flow, sock);
    if (state == TCP_LISTEN)
        connection->told.flow.remote_port = 0;
    connection->state = state;
    return connection->told.head.pid && connection->told.head.pid != config.agent_pid &&
           !bpf_map_update_elem(&connections, &key, connection, how);
}

// KERNEL 5.6: TP_PROTO(const struct sock *sk, const int oldstate, const int newstate); `sk_protocol` is a field since then.
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(inet_sock_set_state, struct sock *sock, int before, int after)
{
    u64 key = (u64)sock;
    if (after == TCP_SYN_SENT || after == TCP_LISTEN) {
        // In the call of the one who connects or listens.
        if (!in_scope() || !is_stream(sock))
            return 0;
        struct connection connection = {};
        connection.told.flow.inbound = after == TCP_LISTEN;
        struct task_struct *task = (struct task_struct *)bpf_get_current_task_btf();
        if (take(&connection, task, sock, after, BPF_ANY) && after == TCP_LISTEN)
            tell_flow(&connection, ACTIVITY_LISTEN);
        return 0;
    }
    if (after != TCP_CLOSE && after != TCP_ESTABLISHED)
        return 0;
    struct connection *connection = bpf_map_lookup_elem(&connections, &key);
    if (!connection)
        return 0;
    if (after == TCP_ESTABLISHED) {
        if (connection->state == TCP_SYN_SENT) {
            fill_flow(&connection->told.flow, sock); // its own port is known now
            connection->state = TCP_ESTABLISHED;
            tell_flow(connection, ACTIVITY_OPEN);
        }
        return 0;
    }
    u32 activity = ACTIVITY_CLOSE;
    if (connection->state == TCP_SYN_SENT) {
        activity = BPF_CORE_READ(sock, sk_err) == ECONNREFUSED ? ACTIVITY_REFUSE : ACTIVITY_FAIL;
    } else if (connection->state == TCP_ESTABLISHED) {
        struct tcp_sock *stream = (struct tcp_sock *)sock;
        connection->told.flow.sent = BPF_CORE_READ(stream, bytes_sent) - BPF_CORE_READ(stream, bytes_retrans);
        u64 received = BPF_CORE_READ(stream, bytes_received);
        if (received && BPF_CORE_READ(sock, __sk_common.skc_flags) & SOCK_DONE)
            received--; // the peer's FIN is counted as a byte
        connection->told.flow.received = received;
    }
    tell_flow(connection, activity);
    bpf_map_delete_elem(&connections, &key);
    return 0;
}

static __always_inline struct sock *sock_of(struct file *file)
{
    if (!file || (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
        return 0;
    struct socket *socket = BPF_CORE_READ(file, private_data);
    struct sock *sock = BPF_CORE_READ(socket, sk);
    return sock && BPF_CORE_READ(socket, type) == SOCK_STREAM && is_stream(sock) ? sock : 0;
}

// accept(2) gave a descriptor.
static __always_inline void accepted(struct task_struct *task, long fd)
{
    struct sock *sock = sock_of(file_at(task, fd));
    if (!sock || BPF_CORE_READ(sock, __sk_common.skc_state) == TCP_CLOSE)
        return;
    struct connection connection = {};
    connection.told.flow.inbound = 1;
    if (take(&connection, task, sock, TCP_ESTABLISHED, BPF_ANY))
        tell_flow(&connection, ACTIVITY_OPEN);
}

// What was there before. KERNEL 5.8: struct bpf_iter__task_file
SEC("iter/task_file")
int sockets(struct bpf_iter__task_file *context)
{
    struct task_struct *task = context->task;
    struct file *file = context->file;
    if (!task || !file || !is_member(task))
        return 0;
    struct sock *sock = sock_of(file);
    if (!sock)
        return 0;
    u32 state = BPF_CORE_READ(sock, __sk_common.skc_state);
    if (state != TCP_LISTEN && state != TCP_ESTABLISHED && state != TCP_CLOSE_WAIT)
        return 0;
    struct connection connection = {};
    connection.told.flow.before = 1;
    // Whether a connection was accepted, the kernel does not keep: who reads this knows the listeners.
    bool listens = state == TCP_LISTEN;
    connection.told.flow.inbound = listens;
    if (take(&connection, task, sock, listens ? TCP_LISTEN : TCP_ESTABLISHED, BPF_NOEXIST))
        tell_flow(&connection, listens ? ACTIVITY_LISTEN : ACTIVITY_OPEN);
    return 0;
}
