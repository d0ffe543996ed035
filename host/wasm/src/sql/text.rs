//! From the tests of an expression to the text of a module.
//!
//! ```text
//!   for each message:
//!     block $reject
//!       block $accept
//!         block $step0 … block $stepN
//!           the last test ─► br $stepK, $accept or $reject     it is the first to be made
//!         end: the test before it ─► br …                      ways lead forwards only
//!       end: sets the message's bit
//!     end
//! ```
//!
//! A test finds its property itself, from the first on: most messages are decided by the first
//! test, and those behind it cost nothing then. What several tests ask for is looked for once.
use std::fmt::Write;

use yard_sql::code::{Ask, Items, List, Number, Orders, Piece, Program, Search, Test, Way};

/// What every generated module has.
const RUNTIME: &str = include_str!("runtime.wat");
/// Where constants begin; what is before is drawn in the runtime.
const CONSTANTS_AT: usize = 1_024;
/// Bytes of a page of memory.
const PAGE_BYTES: usize = 64 << 10;
/// Pages behind the constants: a frame, and the words behind it.
const CALL_PAGES: usize = 2;
/// Tests of an expression of which code is made.
const STEPS_MAX: usize = 256;
/// Items that are compared one after another; more are searched by halves.
const ITEMS_IN_A_ROW: usize = 4;
/// The powers of ten that numbers with a point are divided by.
const POWERS: [f64; 16] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
/// Whole numbers up to here, and those below 0, are exact in a double.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// The module's text.
///
/// # Errors
/// A sentence that says what of the expression there is no code for.
pub(super) fn of(expression: &str, program: &Program) -> Result<String, String> {
    let steps = program.steps();
    assert!(!steps.is_empty(), "an expression is a test at least");
    if steps.len() > STEPS_MAX {
        return Err(format!("it has {} tests; code is made of {STEPS_MAX}", steps.len()));
    }
    let mut writer = Writer { code: String::new(), constants: Vec::new(), shared: shared(program) };
    for number in (0..steps.len()).rev() {
        writer.step(program, number)?;
    }
    Ok(writer.module(expression, steps.len()))
}

/// The names that several tests ask for.
fn shared(program: &Program) -> Vec<Box<[u8]>> {
    let names = program.steps().iter().filter_map(|step| match step.test() {
        Test::Property(name, _) | Test::IsNull(name, _) => Some(name.name().clone()),
        Test::Tag(_) | Test::Other(_) => None,
    });
    let mut names: Vec<Box<[u8]>> = names.collect();
    names.sort();
    let mut several: Vec<Box<[u8]>> =
        names.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0].clone()).collect();
    several.dedup();
    several
}

struct Writer {
    code: String,
    constants: Vec<u8>,
    /// Names of which place and length are kept in `$at0` and `$bytes0` and so on.
    shared: Vec<Box<[u8]>>,
}

/// Adds lines of code.
macro_rules! emit {
    ($writer:expr, $($line:tt)+) => {
        writeln!($writer.code, $($line)+).expect("memory takes it")
    };
}

impl Writer {
    /// A constant's address.
    fn constant(&mut self, bytes: &[u8]) -> usize {
        let at = self.constants.len().next_multiple_of(8);
        self.constants.resize(at, 0);
        self.constants.extend_from_slice(bytes);
        CONSTANTS_AT + at
    }

    fn step(&mut self, program: &Program, number: usize) -> Result<(), String> {
        let step = &program.steps()[number];
        let (yes, no) = step.ways();
        let next = if number == 0 { Way::Accept } else { Way::Step(number - 1) };
        match step.test() {
            Test::IsNull(name, not) => {
                let is_missing = *not != step.wants();
                let (missing, found) = if is_missing { (yes, no) } else { (no, yes) };
                self.find(name.name(), missing);
                emit!(self, "br {}", label(found));
            }
            Test::Property(name, ask) => {
                self.find(name.name(), no);
                self.ask(ask, step.wants());
                self.branch(yes, no, next);
            }
            Test::Tag(ask) => {
                emit!(
                    self,
                    "local.get $tag_bytes i32.eqz br_if {}
                     local.get $tag local.set $v local.get $tag_bytes local.set $n",
                    label(no)
                );
                self.ask(ask, step.wants());
                self.branch(yes, no, next);
            }
            Test::Other(_) => {
                return Err("it compares more than a property or the tag with constants".to_owned());
            }
        }
        if number > 0 {
            emit!(self, "end ;; {}", label(Way::Step(number - 1)));
        }
        Ok(())
    }

    /// Takes a truth from the stack and goes its way.
    fn branch(&mut self, yes: Way, no: Way, next: Way) {
        if yes == next {
            emit!(self, "i32.eqz br_if {}", label(no));
        } else {
            emit!(self, "br_if {} br {}", label(yes), label(no));
        }
    }

    /// Leaves the first property of this name in `$v` and `$n`, or goes where it is missing.
    fn find(&mut self, name: &[u8], missing: Way) {
        let missing = label(missing);
        let Some(kept) = self.shared.iter().position(|it| **it == *name) else {
            self.scan(name, &format!("br {missing}"));
            return;
        };
        // 0: not looked for yet; 1: missing.
        emit!(self, "block $known local.get $at{kept} br_if $known");
        self.scan(name, &format!("i32.const 1 local.set $at{kept} br $known"));
        emit!(
            self,
            "local.get $v local.set $at{kept} local.get $n local.set $bytes{kept}
             end ;; $known
             local.get $at{kept} local.tee $v i32.const 1 i32.eq br_if {missing}
             local.get $bytes{kept} local.set $n"
        );
    }

    /// Looks for a property from the first on. One word has its lengths and the first bytes of its
    /// name.
    fn scan(&mut self, name: &[u8], missing: &str) {
        let length = u16::try_from(name.len()).expect("shorter than the expression");
        let (front, rest) = name.split_at(name.len().min(4));
        let mut mask = u64::from(u16::MAX);
        let mut word = u64::from(length);
        for (at, byte) in front.iter().enumerate() {
            mask |= 0xff << (32 + 8 * at);
            word |= u64::from(*byte) << (32 + 8 * at);
        }
        emit!(
            self,
            "local.get $first local.set $cur
             block $found
               block $missing
                 loop $next
                   local.get $cur local.get $last i32.ge_u br_if $missing
                   local.get $cur i64.load align=1 local.tee $h
                   i64.const {mask:#x} i64.and i64.const {word:#x} i64.eq"
        );
        if rest.is_empty() {
            emit!(self, "br_if $found");
        } else {
            emit!(self, "if");
            self.same_words("$cur", 8, rest);
            emit!(self, "br_if $found end");
        }
        emit!(
            self,
            "      local.get $h i32.wrap_i64 local.tee $w i32.const 0xffff i32.and
                   local.get $w i32.const 16 i32.shr_u i32.add
                   local.get $cur i32.add i32.const 4 i32.add local.set $cur
                   br $next
                 end
               end ;; $missing
               {missing}
             end ;; $found
             local.get $cur i32.const {} i32.add local.set $v
             local.get $h i32.wrap_i64 i32.const 16 i32.shr_u local.set $n",
            4 + name.len()
        );
    }

    /// Whether these bytes are at an address; there are as many, and more that may be read.
    fn same_words(&mut self, at: &str, offset: usize, bytes: &[u8]) {
        assert!(!bytes.is_empty(), "there is something to compare");
        for (number, chunk) in bytes.chunks(8).enumerate() {
            let (word, mask) = masked(chunk);
            emit!(self, "local.get {at} i64.load offset={} align=1", offset + 8 * number);
            if chunk.len() < 8 {
                emit!(self, "i64.const {mask:#x} i64.and");
            }
            emit!(self, "i64.const {word:#x} i64.eq");
            if number > 0 {
                emit!(self, "i32.and");
            }
        }
    }

    /// Leaves 1 where the answer about the text at `$v` is the wanted one, else 0.
    fn ask(&mut self, ask: &Ask, wants: bool) {
        match ask {
            Ask::Same(text, equal) => {
                self.same(text);
                self.turn(*equal == wants);
            }
            Ask::Order(orders, text) => {
                let address = self.constant(text);
                emit!(
                    self,
                    "local.get $v local.get $n i32.const {address} i32.const {}",
                    text.len()
                );
                emit!(self, "call $order");
                self.among_orders(*orders, wants);
            }
            Ask::Number(orders, with) => self.number(*orders, *with, wants),
            Ask::Between(low, high, not) => self.between(*low, *high, wants != *not),
            Ask::In(list, not) => self.list(list, *not, wants),
            Ask::Search(search, not) => {
                self.search(search);
                self.turn(wants != *not);
            }
        }
    }

    /// Turns a truth round unless it is to stay.
    fn turn(&mut self, stays: bool) {
        if !stays {
            emit!(self, "i32.eqz");
        }
    }

    /// Whether -1, 0 or 1 is one of the orders.
    fn among_orders(&mut self, orders: Orders, wants: bool) {
        let bits = wanted(orders, wants);
        emit!(self, "i32.const 1 i32.add local.set $w");
        emit!(self, "i32.const {bits} local.get $w i32.shr_u i32.const 1 i32.and");
    }

    fn same(&mut self, text: &[u8]) {
        emit!(self, "local.get $n i32.const {} i32.eq", text.len());
        if text.is_empty() {
            return;
        }
        emit!(self, "if (result i32)");
        self.same_words("$v", 0, text);
        emit!(self, "else i32.const 0 end");
    }

    /// Begins a block that a number of few digits goes through, in `$int`, and another one leaves.
    fn quick_number(&mut self) {
        emit!(
            self,
            "block $done (result i32)
               block $slow
                 local.get $v i32.load8_u i32.const 0x2d i32.eq local.set $w
                 local.get $n local.get $w i32.sub local.tee $d
                 i32.const 1 i32.sub i32.const 7 i32.gt_u br_if $slow
                 i64.const 64 local.get $d i64.extend_i32_u i64.const 3 i64.shl i64.sub
                 local.set $s
                 local.get $v local.get $w i32.add i64.load align=1 local.get $s i64.shl
                 i64.const 0x3030303030303030 local.get $s i64.shl i64.xor local.tee $x
                 i64.const 0x7676767676767676 i64.add local.get $x i64.or
                 i64.const 0x8080808080808080 i64.and i64.eqz i32.eqz br_if $slow
                 local.get $x i64.const 2561 i64.mul i64.const 8 i64.shr_u
                 i64.const 0x00ff00ff00ff00ff i64.and
                 i64.const 6553601 i64.mul i64.const 16 i64.shr_u
                 i64.const 0x0000ffff0000ffff i64.and
                 i64.const 42949672960001 i64.mul i64.const 32 i64.shr_u local.set $int
                 i64.const 0 local.get $int i64.sub local.get $int local.get $w select
                 local.set $int"
        );
    }

    /// Ends it: from here on any number is in `$kind`, `$int` and `$float`.
    fn any_number(&mut self) {
        emit!(
            self,
            "    br $done
               end ;; $slow
               local.get $v local.get $n call $parse
               local.set $float local.set $int local.tee $kind
               i32.eqz if i32.const 0 br $done end"
        );
    }

    fn number(&mut self, orders: Orders, with: Number, wants: bool) {
        let operator = operator(wanted(orders, wants));
        self.quick_number();
        self.quick_compare(with, operator);
        self.any_number();
        self.any_compare(with);
        self.among_orders(orders, wants);
        emit!(self, "end ;; $done");
    }

    fn between(&mut self, low: Number, high: Number, stays: bool) {
        self.quick_number();
        self.quick_compare(low, "ge");
        self.quick_compare(high, "le");
        emit!(self, "i32.and");
        self.turn(stays);
        self.any_number();
        self.any_compare(low);
        emit!(self, "i32.const 0 i32.ge_s");
        self.any_compare(high);
        emit!(self, "i32.const 0 i32.le_s i32.and");
        self.turn(stays);
        emit!(self, "end ;; $done");
    }

    /// Compares `$int`, which has few digits and so is exact in a double.
    fn quick_compare(&mut self, with: Number, operator: &str) {
        match whole(with) {
            Some(whole) => {
                let sign = if matches!(operator, "eq" | "ne") { "" } else { "_s" };
                emit!(self, "local.get $int i64.const {whole} i64.{operator}{sign}");
            }
            None => {
                let bits = parts(with).1;
                emit!(self, "local.get $int f64.convert_i64_s");
                emit!(self, "i64.const {bits:#x} f64.reinterpret_i64 f64.{operator}");
            }
        }
    }

    /// Leaves -1, 0 or 1.
    fn any_compare(&mut self, with: Number) {
        let (kind, bits) = parts(with);
        emit!(
            self,
            "local.get $kind local.get $int local.get $float
             i32.const {kind} i64.const {bits:#x} i64.const {bits:#x} f64.reinterpret_i64
             call $compare"
        );
    }

    fn list(&mut self, list: &List, not: bool, wants: bool) {
        let stays = wants != not;
        // Of what is not found where NULL is listed nothing is known.
        let is_hopeless = !stays && list.null;
        match &list.items {
            Items::Texts(items) => self.texts(items),
            Items::Numbers(items) => {
                self.quick_number();
                let mut quick: Vec<i64> = items.iter().filter_map(|item| whole(*item)).collect();
                quick.sort_unstable();
                quick.dedup();
                self.halves(&quick, "$int", "lt_s", &mut |writer, item| {
                    emit!(writer, "local.get $int i64.const {item} i64.eq");
                });
                self.verdict(stays, is_hopeless);
                self.any_number();
                let table = items.iter().flat_map(|item| {
                    let (kind, bits) = parts(*item);
                    [u64::from(kind).to_le_bytes(), bits.to_le_bytes()].concat()
                });
                let table: Vec<u8> = table.collect();
                let address = self.constant(&table);
                emit!(
                    self,
                    "local.get $kind local.get $int local.get $float
                     i32.const {address} i32.const {} call $among",
                    items.len()
                );
            }
        }
        self.verdict(stays, is_hopeless);
        if matches!(list.items, Items::Numbers(_)) {
            emit!(self, "end ;; $done");
        }
    }

    /// From whether something was found to whether the answer is the wanted one.
    fn verdict(&mut self, stays: bool, is_hopeless: bool) {
        if is_hopeless {
            emit!(self, "drop i32.const 0");
        } else {
            self.turn(stays);
        }
    }

    /// Whether the text is one of these: by length, then by its first word.
    fn texts(&mut self, items: &[Box<[u8]>]) {
        let mut items: Vec<&[u8]> = items.iter().map(|item| &**item).collect();
        items.sort_by_key(|item| (item.len(), masked(&item[..item.len().min(8)]).0));
        items.dedup();
        emit!(self, "block $done (result i32)");
        for group in items.chunk_by(|a, b| a.len() == b.len()) {
            let length = group[0].len();
            emit!(self, "local.get $n i32.const {length} i32.eq if");
            if length == 0 {
                emit!(self, "i32.const 1");
            } else {
                let (_, mask) = masked(&group[0][..length.min(8)]);
                emit!(self, "local.get $v i64.load align=1 i64.const {mask:#x} i64.and");
                emit!(self, "local.set $x");
                let words = group.chunk_by(|a, b| a[..length.min(8)] == b[..length.min(8)]);
                let words: Vec<&[&[u8]]> = words.collect();
                let keys: Vec<i64> = words
                    .iter()
                    .map(|same| masked(&same[0][..length.min(8)]).0.cast_signed())
                    .collect();
                self.halves(&keys, "$x", "lt_u", &mut |writer, key| {
                    let at = keys.iter().position(|it| it == key).expect("a key of the list");
                    writer.same_rests(words[at]);
                });
            }
            emit!(self, "br $done end");
        }
        emit!(self, "i32.const 0 end ;; $done");
    }

    /// Whether the text is one of these, which have length and first word in common.
    fn same_rests(&mut self, texts: &[&[u8]]) {
        let (word, _) = masked(&texts[0][..texts[0].len().min(8)]);
        emit!(self, "local.get $x i64.const {word:#x} i64.eq");
        if texts[0].len() <= 8 {
            return;
        }
        emit!(self, "if (result i32)");
        for (number, text) in texts.iter().enumerate() {
            self.same_words("$v", 8, &text[8..]);
            if number > 0 {
                emit!(self, "i32.or");
            }
        }
        emit!(self, "else i32.const 0 end");
    }

    /// Finds the one of sorted keys that a local may be, and looks at it.
    fn halves(
        &mut self,
        keys: &[i64],
        local: &str,
        less: &str,
        look: &mut dyn FnMut(&mut Self, &i64),
    ) {
        if keys.len() > ITEMS_IN_A_ROW {
            let (low, high) = keys.split_at(keys.len() / 2);
            emit!(self, "local.get {local} i64.const {} i64.{less} if (result i32)", high[0]);
            self.halves(low, local, less, look);
            emit!(self, "else");
            self.halves(high, local, less, look);
            emit!(self, "end");
            return;
        }
        for (number, key) in keys.iter().enumerate() {
            look(self, key);
            if number > 0 {
                emit!(self, "i32.or");
            }
        }
        if keys.is_empty() {
            emit!(self, "i32.const 0");
        }
    }

    fn search(&mut self, search: &Search) {
        let text = |text: &[u8]| match text {
            [] => Vec::new(),
            text => vec![Piece::Text(text.into())],
        };
        // The others are patterns, too: they have characters of UTF-8 on both sides.
        match search {
            Search::Like(pattern) => self.pattern(pattern.first(), pattern.rest()),
            Search::Contains(part) => self.pattern(&[], &[text(part), Vec::new()]),
            Search::StartsWith(part) => self.pattern(&text(part), &[Vec::new()]),
            Search::EndsWith(part) => self.pattern(&[], &[text(part)]),
        }
    }

    fn pattern(&mut self, first: &[Piece], rest: &[Vec<Piece>]) {
        emit!(
            self,
            "block $done (result i32)
               local.get $v local.set $cur
               local.get $v local.get $n i32.add local.set $end"
        );
        self.part(first, "$strip");
        if let Some((last, middle)) = rest.split_last() {
            for part in middle {
                self.part(part, "$find");
            }
            if last.is_empty() {
                emit!(self, "i32.const 1");
            } else {
                let address = self.pieces(last);
                emit!(self, "local.get $cur local.get $end i32.const {address} call $ends");
            }
        } else {
            emit!(self, "local.get $cur local.get $end i32.eq");
        }
        emit!(self, "end ;; $done");
    }

    /// Goes past a part, where it is, or gives up.
    fn part(&mut self, pieces: &[Piece], by: &str) {
        if pieces.is_empty() {
            return;
        }
        let address = self.pieces(pieces);
        emit!(
            self,
            "local.get $cur local.get $end i32.const {address} call {by} local.tee $cur
             i32.eqz if i32.const 0 br $done end"
        );
    }

    fn pieces(&mut self, pieces: &[Piece]) -> usize {
        let mut part = Vec::new();
        for piece in pieces {
            match piece {
                Piece::AnyCharacter => part.extend_from_slice(&u16::MAX.to_le_bytes()),
                Piece::Text(text) => {
                    let length = u16::try_from(text.len()).expect("shorter than the expression");
                    assert!(length > 0, "a piece is not empty");
                    part.extend_from_slice(&length.to_le_bytes());
                    part.extend_from_slice(text);
                }
            }
        }
        part.extend_from_slice(&0_u16.to_le_bytes());
        self.constant(&part)
    }

    fn module(mut self, expression: &str, steps: usize) -> String {
        const REFUSAL: &str = "this is code for another expression";
        let powers: Vec<u8> = POWERS.iter().flat_map(|power| power.to_le_bytes()).collect();
        let powers = self.constant(&powers);
        let (text, refusal) =
            (self.constant(expression.as_bytes()), self.constant(REFUSAL.as_bytes()));
        let heap = (CONSTANTS_AT + self.constants.len()).next_multiple_of(16);
        let pages = heap.div_ceil(PAGE_BYTES) + CALL_PAGES;
        let (bytes, refusal_bytes) = (expression.len(), REFUSAL.len());
        let constants: String = self.constants.iter().map(|it| format!("\\{it:02x}")).collect();
        let evaluate = self.evaluate(steps);
        let globals = [
            ("heap", heap),
            ("powers", powers),
            ("expression", text),
            ("expression_bytes", bytes),
            ("refusal", refusal),
            ("refusal_bytes", refusal_bytes),
        ];
        let globals = globals.map(|(name, at)| format!("(global ${name} i32 (i32.const {at}))\n"));
        format!(
            r#"(module
(import "[export]switchyard:plugin/filter@1.0.0" "[resource-new]predicate"
  (func $new (param i32) (result i32)))
(memory (export "memory") {pages})
(global $top (mut i32) (i32.const {heap}))
{}
(data (i32.const {CONSTANTS_AT}) "{constants}")
{RUNTIME}
{evaluate})
"#,
            globals.concat()
        )
    }

    fn evaluate(&self, steps: usize) -> String {
        let kept = 0..self.shared.len();
        let places: String = kept
            .clone()
            .map(|it| format!("(local $at{it} i32) (local $bytes{it} i32)\n"))
            .collect();
        let forget: String = kept.map(|it| format!("i32.const 0 local.set $at{it}\n")).collect();
        let blocks: String =
            (0..steps - 1).map(|it| format!("block {}\n", label(Way::Step(it)))).collect();
        let code = &self.code;
        format!(
            r#"(func (export "switchyard:plugin/filter@1.0.0#[method]predicate.evaluate")
    (param $self i32) (param $frame i32) (param $frame_bytes i32) (param $count i32)
    (result i32)
(local $i i32) (local $m i32) (local $after i32) (local $first i32) (local $last i32)
(local $tag i32) (local $tag_bytes i32) (local $cur i32) (local $end i32)
(local $v i32) (local $n i32) (local $w i32) (local $d i32) (local $kind i32)
(local $h i64) (local $x i64) (local $s i64) (local $int i64) (local $float f64)
{places}
local.get $count i32.const 256 i32.gt_u if unreachable end
i32.const 64 i32.const 0 i32.const 32 memory.fill
local.get $frame i32.const 8 i32.add local.set $m
block $over
loop $messages
local.get $i local.get $count i32.ge_u br_if $over
local.get $m local.get $m i32.load16_u offset=4 align=1 i32.add local.tee $tag
local.get $m i32.load16_u offset=42 align=1 local.tee $tag_bytes i32.add local.set $first
local.get $m local.get $m i32.load align=1 i32.add local.tee $after
local.get $m i32.load offset=46 align=1 i32.sub local.set $last
{forget}
block $reject
block $accept
{blocks}
{code}
end ;; $accept
local.get $i i32.const 3 i32.shr_u local.tee $w
local.get $w i32.load8_u offset=64
i32.const 1 local.get $i i32.const 7 i32.and i32.shl i32.or
i32.store8 offset=64
end ;; $reject
local.get $after local.set $m
local.get $i i32.const 1 i32.add local.set $i
br $messages
end
end ;; $over
i32.const 16 i32.const 64 i32.store
i32.const 16 local.get $count i32.const 7 i32.add i32.const 3 i32.shr_u i32.store offset=4
global.get $heap global.set $top
i32.const 16)"#
        )
    }
}

fn label(way: Way) -> String {
    match way {
        Way::Accept => "$accept".to_owned(),
        Way::Reject => "$reject".to_owned(),
        Way::Step(step) => format!("$step{step}"),
    }
}

/// Up to 8 bytes as a word, and the mask of a word that has them.
fn masked(bytes: &[u8]) -> (u64, u64) {
    assert!(bytes.len() <= 8, "a word has 8 bytes");
    let (mut word, mut mask) = ([0; 8], [0; 8]);
    word[..bytes.len()].copy_from_slice(bytes);
    mask[..bytes.len()].fill(u8::MAX);
    (u64::from_le_bytes(word), u64::from_le_bytes(mask))
}

/// The orders for which a comparison is as wanted: bit 0 less, 1 equal, 2 greater.
fn wanted(orders: Orders, wants: bool) -> u8 {
    if wants { orders.bits() } else { !orders.bits() & 7 }
}

/// The instruction of a set of orders.
fn operator(bits: u8) -> &'static str {
    match bits {
        0b001 => "lt",
        0b010 => "eq",
        0b011 => "le",
        0b100 => "gt",
        0b101 => "ne",
        0b110 => "ge",
        _ => unreachable!("a comparison holds for some orders and not for others"),
    }
}

/// A number as the runtime has it: its kind, and its bits.
fn parts(number: Number) -> (u32, u64) {
    match number {
        Number::Int(value) => (1, value.cast_unsigned()),
        Number::Float(value) => (2, value.to_bits()),
    }
}

/// The whole number that compares with few digits as this one does.
fn whole(number: Number) -> Option<i64> {
    match number {
        Number::Int(value) => Some(value),
        Number::Float(value) if value.abs() <= EXACT_MAX && value.fract() == 0.0 => {
            Some(value as i64)
        }
        Number::Float(_) => None,
    }
}
