//! What a script may use: the operator's profile. It runs on the operator's machine, so the
//! bounds are those of a laptop; the broker is protected by its own.

/// Bounds of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Operations of the engine, those of closures among them.
    pub operations: u64,
    /// Functions of a script that call each other.
    pub call_levels: usize,
    /// Closures that run inside of closures.
    pub closure_levels: usize,
    /// Depth of an expression.
    pub expression_depth: usize,
    /// Depth of an expression in a function.
    pub function_expression_depth: usize,
    /// Bytes of a text.
    pub text_bytes: usize,
    /// Items of an array. Each `push` counts them all, so a large array is slow to build.
    pub array_items: usize,
    /// Entries of a map, where it is made or given on: rhai 1.27 does not look at a map to which an
    /// entry is assigned, so that only [`Limits::operations`] bound it there.
    pub map_items: usize,
    /// Variables at a time.
    pub variables: usize,
    /// Functions of a script.
    pub functions: usize,
    /// Bytes of the rows that a sorted or grouped cursor, or a plan, holds; estimated for what is
    /// no message.
    pub held_bytes: usize,
    /// Rows of a table: its columns are as wide as the widest of them.
    pub table_rows: usize,
}

/// The bounds of an operator's console.
pub const OPERATOR: Limits = Limits {
    operations: 500_000_000,
    call_levels: 64,
    closure_levels: 8,
    expression_depth: 64,
    function_expression_depth: 32,
    text_bytes: 4 << 20,
    array_items: 20_000,
    map_items: 20_000,
    variables: 1_024,
    functions: 256,
    held_bytes: 256 << 20,
    table_rows: 20_000,
};

/// Stack of a run, for as many levels as may be: memory is used where it is touched only.
pub(crate) const STACK_BYTES: usize = 64 << 20;

const _: () = assert!(
    STACK_BYTES >= OPERATOR.call_levels * OPERATOR.closure_levels * (64 << 10),
    "64 KiB a level: a frame of the engine has some 5 KiB, an expression of full depth some 50"
);
const _: () = assert!(OPERATOR.table_rows <= OPERATOR.array_items);
