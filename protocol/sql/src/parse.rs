//! Tokens to an expression: by precedence, with types checked on the way.

use crate::ast::{Arithmetic, Compare, Expr, Items, List, Literal, Name, Search};
use crate::lexer::{self, Kind, Symbol, Token, Word};
use crate::like::Pattern;
use crate::number::Number;
use crate::{DEPTH_MAX, Dialect, ParseError};

/// An expression and the names in it.
pub(crate) struct Parsed {
    pub(crate) expr: Expr,
    pub(crate) names: Vec<Name>,
}

pub(crate) fn parse(text: &str, dialect: Dialect) -> Result<Parsed, ParseError> {
    let tokens = lexer::tokens(text, dialect)?;
    let mut parser = Parser { text, dialect, tokens, at: 0, depth: 0, names: Vec::new() };
    let node = parser.expression(OR)?;
    if parser.peek() != &Kind::End {
        return parser.expected("AND, OR, an operator or the end");
    }
    let expr = parser.boolean(node)?.expr;
    Ok(Parsed { expr, names: parser.names })
}

/// How tightly an operator binds, from OR to signs.
type Power = u8;
const OR: Power = 1;
const AND: Power = 2;
const NOT: Power = 3;
const EQUALITY: Power = 4;
const COMPARISON: Power = 5;
const SUM: Power = 6;
const PRODUCT: Power = 7;
const SIGN: Power = 8;

const A_VALUE: &str = "a name, a number, a text, TRUE, FALSE, NULL, a sign, NOT or `(`";

/// What an expression gives. A property is open until something is asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Null,
    Bool,
    Number,
    Text,
    Open,
}

struct Node {
    expr: Expr,
    kind: Type,
    at: usize,
    depth: usize,
}

struct Parser<'t> {
    text: &'t str,
    dialect: Dialect,
    tokens: Vec<Token>,
    at: usize,
    /// How many calls of [`Parser::expression`] wait for each other.
    depth: usize,
    names: Vec<Name>,
}

impl Parser<'_> {
    fn peek(&self) -> &Kind {
        &self.tokens[self.at].kind
    }

    fn here(&self) -> usize {
        self.tokens[self.at].at
    }

    /// The end token is never passed.
    fn advance(&mut self) {
        self.at = (self.at + 1).min(self.tokens.len() - 1);
    }

    fn take(&mut self, kind: &Kind) -> bool {
        let is_there = self.peek() == kind;
        if is_there {
            self.advance();
        }
        is_there
    }

    fn is_rocketmq(&self) -> bool {
        self.dialect == Dialect::RocketMq
    }

    fn error<T>(&self, at: usize, says: impl Into<String>) -> Result<T, ParseError> {
        Err(ParseError::at(self.text, at, says.into()))
    }

    fn expected<T>(&self, what: &str) -> Result<T, ParseError> {
        let Token { at, end, .. } = self.tokens[self.at];
        let found = match &self.text[at..end] {
            "" => "the end".to_owned(),
            text => format!("`{}`", text.chars().take(40).collect::<String>()),
        };
        self.error(at, format!("expected {what}, found {found}"))
    }

    fn node(&self, expr: Expr, kind: Type, at: usize, below: usize) -> Result<Node, ParseError> {
        let depth = below + 1;
        if depth > DEPTH_MAX {
            return self.error(at, format!("nested deeper than {DEPTH_MAX}"));
        }
        Ok(Node { expr, kind, at, depth })
    }

    fn expression(&mut self, least: Power) -> Result<Node, ParseError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return self.error(self.here(), format!("nested deeper than {DEPTH_MAX}"));
        }
        let mut left = self.prefix(least)?;
        while let Some(power) = self.infix_power().filter(|power| *power >= least) {
            left = match power {
                OR | AND => self.chain(left, power)?,
                EQUALITY => self.equality(left)?,
                COMPARISON => self.comparison(left)?,
                _ => self.arithmetic(left, power)?,
            };
        }
        self.depth -= 1;
        Ok(left)
    }

    fn infix_power(&self) -> Option<Power> {
        use Symbol as S;
        match self.peek() {
            Kind::Word(Word::Or) => Some(OR),
            Kind::Word(Word::And) => Some(AND),
            Kind::Word(Word::Is) => Some(EQUALITY),
            Kind::Symbol(S::Equal | S::NotEqual | S::AlsoNotEqual) => Some(EQUALITY),
            Kind::Symbol(S::Less | S::LessOrEqual | S::Greater | S::GreaterOrEqual) => {
                Some(COMPARISON)
            }
            Kind::Word(
                Word::Not
                | Word::Between
                | Word::In
                | Word::Like
                | Word::Contains
                | Word::StartsWith
                | Word::EndsWith,
            ) => Some(COMPARISON),
            Kind::Symbol(S::Plus | S::Minus) => Some(SUM),
            Kind::Symbol(S::Times | S::Over | S::Percent) => Some(PRODUCT),
            Kind::Symbol(S::Open | S::Close | S::Comma)
            | Kind::Word(Word::Null | Word::True | Word::False | Word::Escape)
            | Kind::Name(_)
            | Kind::Text(_)
            | Kind::Number(_)
            | Kind::End => None,
        }
    }

    fn prefix(&mut self, least: Power) -> Result<Node, ParseError> {
        let at = self.here();
        match self.peek().clone() {
            Kind::Word(Word::Not) => {
                // In SQL NOT takes a whole comparison, in RocketMQ only what is next to it.
                let power = if self.is_rocketmq() { SIGN } else { NOT };
                if power < least {
                    return self.expected("a value; NOT stands here in parentheses only");
                }
                self.advance();
                let operand = self.expression(power)?;
                let operand = self.boolean(operand)?;
                self.node(Expr::Not(operand.expr.into()), Type::Bool, at, operand.depth)
            }
            Kind::Symbol(sign @ (Symbol::Minus | Symbol::Plus)) => {
                self.advance();
                let operand = self.expression(SIGN)?;
                self.sign(sign, at, operand)
            }
            Kind::Symbol(Symbol::Open) => {
                self.advance();
                let inner = self.expression(OR)?;
                if !self.take(&Kind::Symbol(Symbol::Close)) {
                    return self.expected("`)`, AND, OR or an operator");
                }
                Ok(inner)
            }
            Kind::Name(name) => {
                self.advance();
                let index = self.name(&name);
                self.node(Expr::Property(index), Type::Open, at, 0)
            }
            kind => match literal(kind) {
                Some((literal, kind)) => {
                    self.advance();
                    self.node(Expr::Literal(literal), kind, at, 0)
                }
                None => self.expected(A_VALUE),
            },
        }
    }

    fn name(&mut self, name: &str) -> usize {
        let name = Name::new(name);
        let known = self.names.iter().position(|it| it.as_str() == name.as_str());
        known.unwrap_or_else(|| {
            self.names.push(name);
            self.names.len() - 1
        })
    }

    fn sign(&mut self, sign: Symbol, at: usize, operand: Node) -> Result<Node, ParseError> {
        if self.is_rocketmq() && sign == Symbol::Plus {
            return Ok(operand);
        }
        let operand = self.numeric(operand)?;
        match (sign, operand.expr) {
            (Symbol::Plus, expr @ Expr::Literal(_)) => {
                self.node(expr, Type::Number, at, operand.depth - 1)
            }
            // What has a sign is a number, so that `+a = +b` compares numbers.
            (Symbol::Plus, expr) => {
                let zero = Expr::Literal(Literal::Number(Number::Int(0)));
                let sum = Expr::Arithmetic(zero.into(), Arithmetic::Add, expr.into());
                self.node(sum, Type::Number, at, operand.depth)
            }
            (_, Expr::Literal(Literal::Number(number))) => {
                let negated = Expr::Literal(Literal::Number(number.negate()));
                self.node(negated, Type::Number, at, operand.depth - 1)
            }
            (_, expr) => self.node(Expr::Negate(expr.into()), Type::Number, at, operand.depth),
        }
    }

    fn chain(&mut self, first: Node, power: Power) -> Result<Node, ParseError> {
        let (word, at) = (self.peek().clone(), first.at);
        let first = self.boolean(first)?;
        let mut depth = first.depth;
        let mut list = vec![first.expr];
        while self.take(&word) {
            let next = self.expression(power + 1)?;
            let next = self.boolean(next)?;
            depth = depth.max(next.depth);
            list.push(next.expr);
        }
        let expr = if power == OR { Expr::Or(list) } else { Expr::And(list) };
        self.node(expr, Type::Bool, at, depth)
    }

    fn equality(&mut self, left: Node) -> Result<Node, ParseError> {
        if self.take(&Kind::Word(Word::Is)) {
            let not = self.take(&Kind::Word(Word::Not));
            if !self.take(&Kind::Word(Word::Null)) {
                return self.expected("NULL");
            }
            let expr = Expr::IsNull { value: left.expr.into(), not };
            return self.node(expr, Type::Bool, left.at, left.depth);
        }
        let is_equal = match self.peek() {
            Kind::Symbol(Symbol::AlsoNotEqual) if self.is_rocketmq() => {
                return self.expected("`<>`, as RocketMQ writes it");
            }
            kind => *kind == Kind::Symbol(Symbol::Equal),
        };
        self.advance();
        let right = self.expression(EQUALITY + 1)?;
        let operator = if is_equal { Compare::Equal } else { Compare::NotEqual };
        self.compare(left, operator, right)
    }

    fn compare(&mut self, a: Node, operator: Compare, b: Node) -> Result<Node, ParseError> {
        self.comparable(&a, &b, operator)?;
        let (at, depth) = (a.at, a.depth.max(b.depth));
        self.node(Expr::Compare(a.expr.into(), operator, b.expr.into()), Type::Bool, at, depth)
    }

    /// Two types that can be compared; what is open becomes what the other is.
    fn comparable(&self, a: &Node, b: &Node, operator: Compare) -> Result<(), ParseError> {
        for side in [a, b] {
            if side.kind == Type::Null {
                return self.error(side.at, "nothing compares with NULL: expected IS NULL");
            }
            let is_ordered = match side.kind {
                Type::Number | Type::Open => true,
                Type::Text => !self.is_rocketmq(),
                Type::Bool | Type::Null => false,
            };
            if !operator.is_equality() && !is_ordered {
                let what = describe(side.kind);
                return self.error(side.at, format!("{what} is neither larger nor smaller"));
            }
        }
        let is_open = a.kind == Type::Open || b.kind == Type::Open;
        if a.kind == b.kind || is_open || self.is_rocketmq() {
            return Ok(());
        }
        let (a, what) = (describe(a.kind), describe(b.kind));
        self.error(b.at, format!("{a} is compared with {what}"))
    }

    fn comparison(&mut self, left: Node) -> Result<Node, ParseError> {
        use Symbol as S;
        let operator = match self.peek() {
            Kind::Symbol(S::Less) => Some(Compare::Less),
            Kind::Symbol(S::LessOrEqual) => Some(Compare::LessOrEqual),
            Kind::Symbol(S::Greater) => Some(Compare::Greater),
            Kind::Symbol(S::GreaterOrEqual) => Some(Compare::GreaterOrEqual),
            _ => None,
        };
        if let Some(operator) = operator {
            self.advance();
            let right = self.expression(COMPARISON + 1)?;
            return self.compare(left, operator, right);
        }
        let not = self.take(&Kind::Word(Word::Not));
        let word = match self.peek() {
            Kind::Word(word) => *word,
            _ => Word::Not,
        };
        match word {
            Word::Between => self.between(left, not),
            Word::In => self.in_list(left, not),
            Word::Like if !self.is_rocketmq() => self.search(left, word, not),
            Word::Contains | Word::StartsWith | Word::EndsWith => self.search(left, word, not),
            _ if self.is_rocketmq() => {
                self.expected("BETWEEN, IN, CONTAINS, STARTSWITH or ENDSWITH")
            }
            _ => self.expected("BETWEEN, IN, LIKE, CONTAINS, STARTSWITH or ENDSWITH"),
        }
    }

    fn between(&mut self, value: Node, not: bool) -> Result<Node, ParseError> {
        self.advance();
        let low = self.expression(SUM)?;
        if !self.take(&Kind::Word(Word::And)) {
            return self.expected("AND and the upper bound");
        }
        let high = self.expression(SUM)?;
        for bound in [&low, &high] {
            self.comparable(&value, bound, Compare::LessOrEqual)?;
        }
        self.comparable(&low, &high, Compare::LessOrEqual)?;
        if let (true, Some(low), Some(high)) = (self.is_rocketmq(), number(&low), number(&high))
            && low.compare(high).is_gt()
        {
            return self.error(value.at, "the lower bound is above the upper one");
        }
        let (at, depth) = (value.at, value.depth.max(low.depth).max(high.depth));
        let (low, high) = (low.expr.into(), high.expr.into());
        let expr = Expr::Between { value: value.expr.into(), low, high, not };
        self.node(expr, Type::Bool, at, depth)
    }

    fn in_list(&mut self, value: Node, not: bool) -> Result<Node, ParseError> {
        if self.is_rocketmq() && value.kind != Type::Open {
            return self.error(value.at, "expected a property before IN");
        }
        self.advance();
        if !self.take(&Kind::Symbol(Symbol::Open)) {
            return self.expected("`(`");
        }
        let (mut numbers, mut texts, mut null) = (Vec::new(), Vec::new(), false);
        loop {
            let item = self.expression(SIGN)?;
            match item.expr {
                Expr::Literal(Literal::Text(text)) => texts.push(text),
                _ if self.is_rocketmq() => return self.error(item.at, "expected a text"),
                Expr::Literal(Literal::Number(number)) => numbers.push(number),
                Expr::Literal(Literal::Null) => null = true,
                _ => return self.error(item.at, "expected a number, a text or NULL"),
            }
            if !numbers.is_empty() && !texts.is_empty() {
                return self.error(item.at, "a list has numbers or texts, not both");
            }
            if !self.take(&Kind::Symbol(Symbol::Comma)) {
                break;
            }
        }
        if !self.take(&Kind::Symbol(Symbol::Close)) {
            return self.expected("`,` or `)`");
        }
        let kind = match (numbers.is_empty(), texts.is_empty()) {
            (false, _) => Type::Number,
            (_, false) => Type::Text,
            (true, true) => value.kind,
        };
        if !matches!(value.kind, Type::Open | Type::Null) && value.kind != kind {
            let (found, list) = (describe(value.kind), describe(kind));
            return self.error(value.at, format!("{found} is looked for in a list of {list}s"));
        }
        let items = if numbers.is_empty() {
            texts.sort();
            Items::Texts(texts)
        } else {
            numbers.sort_by(|a, b| a.compare(*b));
            Items::Numbers(numbers)
        };
        let (at, depth) = (value.at, value.depth);
        let list = List { items, null };
        self.node(Expr::In { value: value.expr.into(), list, not }, Type::Bool, at, depth)
    }

    fn search(&mut self, value: Node, word: Word, not: bool) -> Result<Node, ParseError> {
        if !matches!(value.kind, Type::Open | Type::Text | Type::Null) {
            let found = describe(value.kind);
            return self.error(value.at, format!("expected a text to search, found {found}"));
        }
        self.advance();
        let part_at = self.here();
        let part = self.text()?;
        let search = match word {
            Word::Contains => Search::Contains(part.into_bytes().into()),
            Word::StartsWith => Search::StartsWith(part.into_bytes().into()),
            Word::EndsWith => Search::EndsWith(part.into_bytes().into()),
            _ => {
                let escape = self.escape()?;
                match Pattern::new(&part, escape) {
                    Ok(pattern) => Search::Like(pattern),
                    Err(says) => return self.error(part_at, says),
                }
            }
        };
        let (at, depth) = (value.at, value.depth);
        self.node(Expr::Search { value: value.expr.into(), search, not }, Type::Bool, at, depth)
    }

    fn text(&mut self) -> Result<String, ParseError> {
        let Kind::Text(text) = self.peek() else {
            return self.expected("a text in single quotes");
        };
        let text = text.clone();
        self.advance();
        Ok(text)
    }

    fn escape(&mut self) -> Result<Option<char>, ParseError> {
        if !self.take(&Kind::Word(Word::Escape)) {
            return Ok(None);
        }
        let at = self.here();
        let text = self.text()?;
        let mut characters = text.chars();
        match (characters.next(), characters.next()) {
            (Some(escape), None) => Ok(Some(escape)),
            _ => self.error(at, "expected one character behind ESCAPE"),
        }
    }

    fn arithmetic(&mut self, left: Node, power: Power) -> Result<Node, ParseError> {
        let operator = match self.peek() {
            Kind::Symbol(Symbol::Plus) => Arithmetic::Add,
            Kind::Symbol(Symbol::Minus) => Arithmetic::Subtract,
            Kind::Symbol(Symbol::Times) => Arithmetic::Multiply,
            Kind::Symbol(Symbol::Over) => Arithmetic::Divide,
            _ => Arithmetic::Remainder,
        };
        if self.is_rocketmq() {
            return self.expected("no arithmetic: RocketMQ has none");
        }
        self.advance();
        let left = self.numeric(left)?;
        let right = self.expression(power + 1)?;
        let right = self.numeric(right)?;
        let (at, depth) = (left.at, left.depth.max(right.depth));
        let expr = Expr::Arithmetic(left.expr.into(), operator, right.expr.into());
        self.node(expr, Type::Number, at, depth)
    }

    fn boolean(&self, node: Node) -> Result<Node, ParseError> {
        match node.kind {
            Type::Bool | Type::Open | Type::Null => Ok(node),
            kind => {
                let found = describe(kind);
                self.error(node.at, format!("expected something TRUE or FALSE, found {found}"))
            }
        }
    }

    fn numeric(&self, node: Node) -> Result<Node, ParseError> {
        match node.kind {
            Type::Number | Type::Open | Type::Null => Ok(node),
            // Minus of anything is NULL there, and no error.
            _ if self.is_rocketmq() => Ok(node),
            kind => self.error(node.at, format!("expected a number, found {}", describe(kind))),
        }
    }
}

fn literal(kind: Kind) -> Option<(Literal, Type)> {
    match kind {
        Kind::Text(text) => Some((Literal::Text(text.into_bytes().into()), Type::Text)),
        Kind::Number(number) => Some((Literal::Number(number), Type::Number)),
        Kind::Word(Word::True) => Some((Literal::Bool(true), Type::Bool)),
        Kind::Word(Word::False) => Some((Literal::Bool(false), Type::Bool)),
        Kind::Word(Word::Null) => Some((Literal::Null, Type::Null)),
        _ => None,
    }
}

fn number(node: &Node) -> Option<Number> {
    match node.expr {
        Expr::Literal(Literal::Number(number)) => Some(number),
        _ => None,
    }
}

fn describe(kind: Type) -> &'static str {
    match kind {
        Type::Null => "NULL",
        Type::Bool => "a condition",
        Type::Number => "a number",
        Type::Text => "a text",
        Type::Open => "a property",
    }
}
