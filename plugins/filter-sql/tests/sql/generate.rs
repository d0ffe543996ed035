//! Predicates, by a seed.

/// Random numbers that are the same everywhere. Source: SplitMix64, as in Java's library.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub(crate) fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

/// What predicates are about: names, and values that they are compared with.
pub(crate) struct Columns {
    pub(crate) numbers: &'static [(&'static str, &'static [i64])],
    pub(crate) texts: &'static [(&'static str, &'static [&'static str])],
}

const ORDERED: &[&str] = &["=", "<>", "<", "<=", ">", ">="];

/// A predicate of AND, OR and NOT so deep, in words that SQLite has too.
pub(crate) fn predicate(random: &mut Random, columns: &Columns, depth: usize) -> String {
    if depth == 0 {
        return leaf(random, columns);
    }
    let child = |random: &mut Random, shallow: usize| {
        let below = depth - 1 - shallow.min(depth - 1);
        format!("({})", predicate(random, columns, below))
    };
    match random.below(7) {
        0 => format!("NOT {}", child(random, 0)),
        1 => format!("{} = TRUE", child(random, 0)),
        kind => {
            let word = if kind % 2 == 0 { " AND " } else { " OR " };
            // One child has all the depth, others what chance gives them.
            let mut children = vec![child(random, 0)];
            for _ in 0..=random.below(2) {
                let shallow = random.below(3);
                children.insert(random.below(children.len() + 1), child(random, shallow));
            }
            children.join(word)
        }
    }
}

fn not(random: &mut Random) -> &'static str {
    if random.one_in(3) { "NOT " } else { "" }
}

fn leaf(random: &mut Random, columns: &Columns) -> String {
    let (name, values) = *random.pick(columns.numbers);
    let (text, texts) = *random.pick(columns.texts);
    match random.below(11) {
        0 | 1 => {
            let operator = random.pick(ORDERED);
            format!("{name} {operator} {}", constant(random, values))
        }
        2 => {
            let (left, operator) = (sum(random, columns, 2), *random.pick(ORDERED));
            format!("{left} {operator} {}", sum(random, columns, 1))
        }
        3 => {
            let (other, _) = *random.pick(columns.numbers);
            format!("{name} {} {other}", random.pick(ORDERED))
        }
        4 => {
            let (low, high) = (constant(random, values), constant(random, values));
            format!("{name} {}BETWEEN {low} AND {high}", not(random))
        }
        5 => {
            let mut items: Vec<String> =
                (0..=random.below(4)).map(|_| random.pick(values).to_string()).collect();
            if random.one_in(6) {
                items.push("NULL".to_owned());
            }
            format!("{name} {}IN ({})", not(random), items.join(", "))
        }
        6 => format!("{text} {} '{}'", random.pick(ORDERED), random.pick(texts)),
        7 => {
            let items: Vec<String> =
                (0..=random.below(4)).map(|_| format!("'{}'", random.pick(texts))).collect();
            format!("{text} {}IN ({})", not(random), items.join(", "))
        }
        8 => format!("{text} {}LIKE '{}'", not(random), pattern(random, texts)),
        9 => format!("{name} IS {}NULL", not(random)),
        _ => format!("{text} IS {}NULL", not(random)),
    }
}

fn constant(random: &mut Random, values: &[i64]) -> String {
    let value = random.pick(values);
    if random.one_in(5) { format!("{value}.5") } else { value.to_string() }
}

fn sum(random: &mut Random, columns: &Columns, depth: usize) -> String {
    if depth == 0 || random.one_in(4) {
        let (name, values) = *random.pick(columns.numbers);
        return match random.below(3) {
            0 => constant(random, values),
            1 => format!("-{name}"),
            _ => name.to_owned(),
        };
    }
    let (left, right) = (sum(random, columns, depth - 1), sum(random, columns, depth - 1));
    format!("({left} {} {right})", random.pick(&["+", "-", "*", "/", "%"]))
}

/// A text with some of its characters gone for wildcards.
fn pattern(random: &mut Random, texts: &[&str]) -> String {
    let text = random.pick(texts);
    let mut pattern = String::new();
    for character in text.chars() {
        match random.below(5) {
            0 => pattern.push('_'),
            1 => pattern.push('%'),
            _ => pattern.push(character),
        }
    }
    pattern
}
