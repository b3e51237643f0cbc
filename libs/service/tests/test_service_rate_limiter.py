from warren_service.rate_limiter import RateLimiter


def test_each_name_has_a_bucket_of_its_own() -> None:
    limiter = RateLimiter(burst=3, rate=0.5)
    assert [limiter.take("a", 100.0) for _ in range(5)] == [True, True, True, False, False]
    assert limiter.take("b", 100.0)
    assert [limiter.take("a", 102.0) for _ in range(2)] == [True, False]
    assert [limiter.take("a", 1_000.0) for _ in range(4)] == [True, True, True, False]
