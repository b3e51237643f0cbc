from warren_process.token_bucket import RateLimiter, TokenBucket


def test_each_name_has_a_bucket_of_its_own() -> None:
    limiter = RateLimiter(burst=3, rate=0.5)
    assert [limiter.take("a", 100.0) for _ in range(5)] == [True, True, True, False, False]
    assert limiter.take("b", 100.0)
    assert [limiter.take("a", 102.0) for _ in range(2)] == [True, False]
    assert [limiter.take("a", 1_000.0) for _ in range(4)] == [True, True, True, False]


def test_a_cost_is_taken_whole_or_not_at_all() -> None:
    bucket = TokenBucket(burst=10, rate=1)
    assert bucket.take(0.0, 8)
    assert not bucket.take(0.0, 3)
    assert bucket.take(1.0, 3)


def test_draining_never_goes_below_zero_and_having_takes_nothing() -> None:
    limiter = RateLimiter(burst=2, rate=1, max_names=2)
    for _ in range(5):
        limiter.drain("a", 0.0)
    assert not limiter.has("a", 0.5)
    assert limiter.has("a", 1.0)
    assert limiter.has("never seen", 0.0)


def test_the_least_recently_used_name_is_dropped() -> None:
    limiter = RateLimiter(burst=1, rate=0, max_names=2)
    assert [limiter.take(name, 0.0) for name in ("a", "b", "c", "a")] == [True, True, True, True]
    assert not limiter.take("c", 0.0)
