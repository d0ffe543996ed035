//! The marks of the branches of opening and refusal. See `yard_wire::mark`.
yard_wire::marks! {
    AnswerFenced "shard.answer.fenced"
    ProgressUnrecorded "shard.progress.unrecorded"
    RefusedFull "shard.refused.full"
    RefusedFenced "shard.refused.fenced"
    RefusedTooLarge "shard.refused.too-large"
    RefusedLeaving "shard.refused.leaving"
    FetchGap "shard.fetch.gap"
    FetchEnd "shard.fetch.end"
    WaiterFenced "shard.waiter.fenced"
    DiskTriedAgain "shard.disk.tried-again"
    StatePut "shard.state.put"
    ClockBack "shard.clock.back"
    OpenRestored "shard.open.restored"
    OpenStateBad "shard.open.state-bad"
    RetentionRetires "shard.retention.retires"
}
