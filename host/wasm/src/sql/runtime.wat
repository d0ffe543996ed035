;; What generated filters have in common: memory for the host's lists, numbers, texts, patterns.
;;
;; Memory: 16..32 results, 64..96 the bitmap, from 1024 on constants, then what a call is given,
;; which is gone when it is over. Behind that there are 64 bytes at least, so that words may be
;; read where fewer bytes are left.

(func (export "cabi_realloc") (param $old i32) (param $old_bytes i32) (param $align i32)
    (param $bytes i32) (result i32)
  (local $at i32) (local $missing i32)
  ;; A guest has no more than 32 MiB, so what is added up below cannot wrap.
  (if (i32.gt_u (local.get $bytes) (i32.const 0x4000000)) (then (unreachable)))
  (local.set $at (i32.and
      (i32.add (global.get $top) (i32.sub (local.get $align) (i32.const 1)))
      (i32.sub (i32.const 0) (local.get $align))))
  (global.set $top (i32.add (local.get $at) (local.get $bytes)))
  (local.set $missing (i32.sub
      (i32.add (global.get $top) (i32.const 64))
      (i32.shl (memory.size) (i32.const 16))))
  (if (i32.gt_s (local.get $missing) (i32.const 0)) (then
      (if (i32.eq (i32.const -1) (memory.grow
              (i32.shr_u (i32.add (local.get $missing) (i32.const 0xffff)) (i32.const 16))))
          (then (unreachable)))))
  (memory.copy (local.get $at) (local.get $old)
      (select (local.get $old_bytes) (local.get $bytes)
          (i32.lt_u (local.get $old_bytes) (local.get $bytes))))
  (local.get $at))

;; The one expression is understood, every other refused.
(func (export "switchyard:plugin/filter@1.0.0#[static]predicate.compile")
    (param $text i32) (param $bytes i32) (param $config i32) (param $count i32) (result i32)
  (global.set $top (global.get $heap))
  (if (call $order (local.get $text) (local.get $bytes)
          (global.get $expression) (global.get $expression_bytes))
      (then
        (i32.store8 (i32.const 16) (i32.const 1))
        (i32.store (i32.const 20) (global.get $refusal))
        (i32.store (i32.const 24) (global.get $refusal_bytes)))
      (else
        (i32.store8 (i32.const 16) (i32.const 0))
        (i32.store (i32.const 20) (call $new (i32.const 1)))))
  (i32.const 16))

(func (export "switchyard:plugin/filter@1.0.0#[method]predicate.needs") (param $self i32)
    (result i32)
  (memory.fill (i32.const 16) (i32.const 0) (i32.const 12))
  (i32.const 16))

;; The host asks about one predicate at a time.
(func (export "switchyard:plugin/filter@1.0.0#evaluate-all")
    (param i32 i32 i32 i32 i32) (result i32)
  unreachable)

;; Less, equal, greater: -1, 0, 1, byte by byte.
(func $order (param $a i32) (param $a_bytes i32) (param $b i32) (param $b_bytes i32) (result i32)
  (local $i i32) (local $x i32) (local $y i32)
  (block $over
    (loop $next
      (br_if $over (i32.ge_u (local.get $i) (local.get $a_bytes)))
      (br_if $over (i32.ge_u (local.get $i) (local.get $b_bytes)))
      (local.set $x (i32.load8_u (i32.add (local.get $a) (local.get $i))))
      (local.set $y (i32.load8_u (i32.add (local.get $b) (local.get $i))))
      (if (i32.ne (local.get $x) (local.get $y)) (then
          (return (select (i32.const -1) (i32.const 1)
              (i32.lt_u (local.get $x) (local.get $y))))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $next)))
  (i32.sub (i32.gt_u (local.get $a_bytes) (local.get $b_bytes))
      (i32.lt_u (local.get $a_bytes) (local.get $b_bytes))))

;; The number that a text is: 1 and a whole one, 2 and a floating one, or 0. Traps at the few texts
;; that may be numbers and take more than this to read: exponents, many digits.
(func $parse (param $text i32) (param $bytes i32) (result i32 i64 f64)
  (local $at i32) (local $end i32) (local $byte i32) (local $negative i32) (local $count i32)
  (local $point i32) (local $before i32) (local $value i64)
  (local.set $at (local.get $text))
  (local.set $end (i32.add (local.get $text) (local.get $bytes)))
  (local.set $point (i32.const -1))
  (if (local.get $bytes) (then
      (local.set $byte (i32.load8_u (local.get $text)))
      (local.set $negative (i32.eq (local.get $byte) (i32.const 0x2d)))
      (local.set $at (i32.add (local.get $text)
          (i32.or (local.get $negative) (i32.eq (local.get $byte) (i32.const 0x2b)))))))
  (block $slow
    (block $over
      (loop $next
        (br_if $over (i32.ge_u (local.get $at) (local.get $end)))
        (local.set $byte (i32.sub (i32.load8_u (local.get $at)) (i32.const 0x30)))
        (if (i32.and (i32.lt_u (local.get $byte) (i32.const 10))
                (i32.lt_u (local.get $count) (i32.const 18)))
            (then
              (local.set $value (i64.add
                  (i64.mul (local.get $value) (i64.const 10))
                  (i64.extend_i32_u (local.get $byte))))
              (local.set $count (i32.add (local.get $count) (i32.const 1))))
            (else
              ;; A point, the first.
              (br_if $slow (i32.or (i32.ne (local.get $byte) (i32.const -2))
                  (i32.ge_s (local.get $point) (i32.const 0))))
              (local.set $point (local.get $count))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $next)))
    (if (i32.eqz (local.get $count)) (then
        (return (i32.const 0) (i64.const 0) (f64.const 0))))
    (if (local.get $negative) (then
        (local.set $value (i64.sub (i64.const 0) (local.get $value)))))
    (if (i32.lt_s (local.get $point) (i32.const 0)) (then
        (return (i32.const 1) (local.get $value) (f64.const 0))))
    (br_if $slow (i32.gt_u (local.get $count) (i32.const 15)))
    ;; Both are exact, so their quotient is rounded once.
    (return (i32.const 2) (i64.const 0) (f64.div
        (f64.convert_i64_s (local.get $value))
        (f64.load (i32.add (global.get $powers)
            (i32.shl (i32.sub (local.get $count) (local.get $point)) (i32.const 3)))))))
  (local.set $at (local.get $text))
  (local.set $point (i32.const 0))
  (block $other
    (block $over
      (loop $next
        (br_if $over (i32.ge_u (local.get $at) (local.get $end)))
        (local.set $byte (i32.load8_u (local.get $at)))
        (if (i32.ge_u (i32.sub (local.get $byte) (i32.const 0x30)) (i32.const 10)) (then
            (if (i32.eq (local.get $byte) (i32.const 0x2e))
                (then
                  (br_if $other (local.get $point))
                  (local.set $point (i32.const 1)))
                (else
                  ;; Signs begin a text, or an exponent.
                  (if (call $is_sign (local.get $byte))
                      (then (br_if $other (i32.eqz (i32.or
                          (i32.eq (local.get $at) (local.get $text))
                          (call $is_e (local.get $before))))))
                      (else (br_if $other (i32.eqz (call $is_e (local.get $byte))))))))))
        (local.set $before (local.get $byte))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $next)))
    (br_if $other (call $is_e (local.get $before)))
    (br_if $other (call $is_sign (local.get $before)))
    unreachable)
  (i32.const 0) (i64.const 0) (f64.const 0))

(func $is_sign (param $byte i32) (result i32)
  (i32.or (i32.eq (local.get $byte) (i32.const 0x2b)) (i32.eq (local.get $byte) (i32.const 0x2d))))

(func $is_e (param $byte i32) (result i32)
  (i32.eq (i32.or (local.get $byte) (i32.const 0x20)) (i32.const 0x65)))

;; Less, equal, greater: -1, 0, 1, of numbers as $parse gives them.
(func $compare (param $a_kind i32) (param $a i64) (param $a_float f64)
    (param $b_kind i32) (param $b i64) (param $b_float f64) (result i32)
  (if (i32.eq (local.get $a_kind) (i32.const 1)) (then
      (if (i32.eq (local.get $b_kind) (i32.const 1)) (then
          (return (i32.sub (i64.gt_s (local.get $a) (local.get $b))
              (i64.lt_s (local.get $a) (local.get $b))))))
      (return (call $mixed (local.get $a) (local.get $b_float)))))
  (if (i32.eq (local.get $b_kind) (i32.const 1)) (then
      (return (i32.sub (i32.const 0) (call $mixed (local.get $b) (local.get $a_float))))))
  (i32.sub (f64.gt (local.get $a_float) (local.get $b_float))
      (f64.lt (local.get $a_float) (local.get $b_float))))

;; Exact: a double has no room for all whole numbers of 64 bits.
(func $mixed (param $whole i64) (param $float f64) (result i32)
  (local $truncated i64) (local $rest f64)
  (if (f64.ge (local.get $float) (f64.const 9223372036854775808)) (then (return (i32.const -1))))
  (if (f64.lt (local.get $float) (f64.const -9223372036854775808)) (then (return (i32.const 1))))
  (local.set $truncated (i64.trunc_f64_s (local.get $float)))
  (if (i64.ne (local.get $whole) (local.get $truncated)) (then
      (return (select (i32.const -1) (i32.const 1)
          (i64.lt_s (local.get $whole) (local.get $truncated))))))
  (local.set $rest (f64.sub (local.get $float) (f64.convert_i64_s (local.get $truncated))))
  (i32.sub (f64.lt (local.get $rest) (f64.const 0)) (f64.gt (local.get $rest) (f64.const 0))))

;; Whether a number is one of a table: 8 bytes of kind, 8 of the number.
(func $among (param $kind i32) (param $whole i64) (param $float f64)
    (param $table i32) (param $count i32) (result i32)
  (block $over
    (loop $next
      (br_if $over (i32.eqz (local.get $count)))
      (if (i32.eqz (call $compare (local.get $kind) (local.get $whole) (local.get $float)
              (i32.load (local.get $table)) (i64.load offset=8 (local.get $table))
              (f64.load offset=8 (local.get $table))))
          (then (return (i32.const 1))))
      (local.set $table (i32.add (local.get $table) (i32.const 16)))
      (local.set $count (i32.sub (local.get $count) (i32.const 1)))
      (br $next)))
  (i32.const 0))

;; What follows a part of a pattern that stands at the front, or 0. A part is a list of u16 lengths
;; with their bytes; 0xffff is any character, 0 the end.
(func $strip (param $at i32) (param $end i32) (param $part i32) (result i32)
  (local $bytes i32)
  (loop $next
    (local.set $bytes (i32.load16_u (local.get $part)))
    (local.set $part (i32.add (local.get $part) (i32.const 2)))
    (if (i32.eqz (local.get $bytes)) (then (return (local.get $at))))
    (if (i32.eq (local.get $bytes) (i32.const 0xffff))
        (then
          (if (i32.eq (local.get $at) (local.get $end)) (then (return (i32.const 0))))
          (local.set $at (call $character (local.get $at) (local.get $end))))
        (else
          (if (i32.gt_u (local.get $bytes) (i32.sub (local.get $end) (local.get $at)))
              (then (return (i32.const 0))))
          (if (call $order (local.get $at) (local.get $bytes)
                  (local.get $part) (local.get $bytes))
              (then (return (i32.const 0))))
          (local.set $at (i32.add (local.get $at) (local.get $bytes)))
          (local.set $part (i32.add (local.get $part) (local.get $bytes)))))
    (br $next))
  unreachable)

;; Where the next character begins.
(func $character (param $at i32) (param $end i32) (result i32)
  (loop $next
    (local.set $at (i32.add (local.get $at) (i32.const 1)))
    (if (i32.lt_u (local.get $at) (local.get $end)) (then
        (br_if $next (i32.eq (i32.const 0x80)
            (i32.and (i32.load8_u (local.get $at)) (i32.const 0xc0)))))))
  (local.get $at))

;; What follows the first place of a part, or 0.
(func $find (param $at i32) (param $end i32) (param $part i32) (result i32)
  (local $after i32)
  (loop $next
    (local.set $after (call $strip (local.get $at) (local.get $end) (local.get $part)))
    (if (local.get $after) (then (return (local.get $after))))
    (if (i32.eq (local.get $at) (local.get $end)) (then (return (i32.const 0))))
    (local.set $at (call $character (local.get $at) (local.get $end)))
    (br $next))
  unreachable)

;; Whether a part stands at the end.
(func $ends (param $at i32) (param $end i32) (param $part i32) (result i32)
  (loop $next
    (if (i32.eq (local.get $end)
            (call $strip (local.get $at) (local.get $end) (local.get $part)))
        (then (return (i32.const 1))))
    (if (i32.eq (local.get $at) (local.get $end)) (then (return (i32.const 0))))
    (local.set $at (call $character (local.get $at) (local.get $end)))
    (br $next))
  unreachable)
