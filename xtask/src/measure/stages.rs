//! Which part of the work a sample of the profiler belongs to.

/// One frame of a sample's stack: the innermost comes first.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Frame {
    pub(super) is_kernel: bool,
    pub(super) symbol: String,
}

/// What the kernel was asked for; the first that is found counts.
const KERNEL: &[(&str, &[&str])] = &[
    ("UDP send", &["sys_sendmsg", "sys_sendmmsg", "sys_sendto"]),
    ("UDP receive", &["sys_recvmsg", "sys_recvmmsg", "sys_recvfrom"]),
    ("pwrite", &["sys_pwrite"]),
    ("fdatasync", &["sys_fdatasync", "sys_fsync"]),
    ("pread", &["sys_pread"]),
    ("wait and wake", &["sys_futex", "sys_epoll", "sys_write", "sys_read", "nanosleep", "yield"]),
    ("memory of the kernel", &["page_fault", "sys_mmap", "sys_munmap", "sys_brk", "sys_madvise"]),
];

/// Symbols of programs; the first that is found counts.
const PROGRAM: &[(&str, &[&str])] = &[
    ("start-up", &["jent_", "keccak", "sha3", "rol64", "xoshiro", "dl_", "uint32rotl"]),
    (
        "encrypt, decrypt",
        &[
            "aes_",
            "gcm",
            "aead",
            "ghash",
            "skip_iv",
            "PacketKey",
            "HeaderKey",
            "packet_crypto",
            "rustls",
            "aws_lc",
            "hmac",
            "decrypt",
            "encrypt",
        ],
    ),
    ("CRC, xxh3", &["crc32c", "crc_u64", "xxh3", "xxhash"]),
    ("copy", &["memmove", "memcpy", "memcmp", "bcmp"]),
    ("zero memory", &["memset", "bzero"]),
    (
        "allocation",
        &[
            "malloc",
            "_int_free",
            "cfree",
            "realloc",
            "calloc",
            "unlink_chunk",
            "tcache",
            "finish_grow",
        ],
    ),
    ("quinn", &["quinn"]),
    ("the bench itself", &["verbs::bench", "hdrhistogram"]),
    ("records, batches", &["yard_wire::record", "yard_wire::batch"]),
    ("frames, requests", &["yard_wire"]),
    ("client: producing", &["yard_client::producer", "yard_client::lane", "yard_client::message"]),
    ("client: consuming", &["yard_client::consumer"]),
    ("client: connection", &["yard_client"]),
    ("store: read", &["yard_store::read", "yard_store::recover"]),
    ("store: append, index", &["yard_store"]),
    ("broker", &["yard_broker"]),
    ("shard", &["yard_shard"]),
    ("server: deliver", &["yard_server::deliver"]),
    ("server: threads", &["yard_server"]),
    ("transport", &["yard_transport"]),
    ("tokio", &["tokio", "mio::", "futures", "core::task", "core::future"]),
    ("clock", &["clock_gettime", "Timespec", "Instant"]),
    ("byte buffers", &["bytes::"]),
    ("maps, heaps", &["btree", "hashbrown", "binary_heap", "vec_deque"]),
];

/// The name of the stage.
pub(super) fn of(stack: &[Frame]) -> &'static str {
    let Some(innermost) = stack.first() else { return "unknown" };
    let find = |table: &[(&'static str, &[&str])], symbol: &str| {
        let is_in =
            |(_, parts): &&(&'static str, &[&str])| parts.iter().any(|p| symbol.contains(p));
        table.iter().find(is_in).map(|(stage, _)| *stage)
    };
    if innermost.is_kernel {
        let kernel = stack.iter().take_while(|frame| frame.is_kernel);
        // The outermost says what was asked for, the inner ones how it is done.
        let outermost_first: Vec<_> = kernel.collect();
        let found = outermost_first.iter().rev().find_map(|frame| find(KERNEL, &frame.symbol));
        return found.unwrap_or("other of the kernel");
    }
    find(PROGRAM, &innermost.symbol).unwrap_or("other of the program")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_of_stacks() {
        let check = |stack: &[(bool, &str)], expected: &str| {
            let frame = |(is_kernel, symbol): &(bool, &str)| Frame {
                is_kernel: *is_kernel,
                symbol: (*symbol).to_owned(),
            };
            let stack: Vec<Frame> = stack.iter().map(frame).collect();
            assert_eq!(of(&stack), expected);
        };
        check(&[], "unknown");
        check(&[(true, "copy_user"), (true, "__x64_sys_pwrite64"), (false, "pwrite")], "pwrite");
        let fault = [(true, "clear_page"), (true, "asm_exc_page_fault"), (false, "memmove")];
        check(&fault, "memory of the kernel");
        check(&[(true, "idle")], "other of the kernel");
        check(&[(false, "aws_lc_0_47_0_aes_gcm_encrypt_avx512")], "encrypt, decrypt");
        check(&[(false, "<quinn::connection::State as Future>::poll")], "quinn");
        check(&[(false, "yard_client::lane::LaneCore::push")], "client: producing");
        check(&[(false, "core::slice::sort")], "other of the program");
    }
}
