"""The service outlives its clients: no bad request is its fault or its end, and slow ones do not slow the others."""

import statistics
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("starlette", reason="the web page's libraries are absent: pip install 'wavediff[serve]'")
pytest.importorskip("uvicorn", reason="the web page's libraries are absent: pip install 'wavediff[serve]'")

from bad_requests import KINDS, answer_to, bad_request
from service_process import GOOD, LIMITS, PATIENT, Service, serving, slow_clients
from services import ask
from workers import closing_line

BUSY = (503, 504)


@pytest.mark.parametrize("count", [60, pytest.param(1000, marks=pytest.mark.long)])
def test_bad_requests_are_refused_and_the_service_lives(count: int) -> None:  # faults 70, 71, 74, 77
    start, statuses, kinds = time.monotonic(), Counter[int | None](), Counter[str]()
    with serving(LIMITS) as service, ThreadPoolExecutor(4) as pool:
        bad = [bad_request(seed) for seed in range(count)]
        for seed, answer in enumerate(pool.map(lambda one: answer_to(service.port, one), bad)):
            for status in (answer.status or 0, *answer.told):
                assert status < 500 or status in BUSY, f"seed {seed} ({bad[seed].kind}): {answer}"
            statuses[answer.status] += 1
            kinds[bad[seed].kind] += 1
        service.check_alive()
    assert kinds.keys() == KINDS.keys()
    assert sum(number for status, number in statuses.items() if status and 400 <= status < 500) > count / 3
    found = ", ".join(f"{number} x {status or 'closed'}" for status, number in statuses.most_common())
    closing_line(f"bad requests: {count}, {found}; alive at the end", start)


def p95(service: Service, requests: int) -> float:
    """Of the time that a good request takes [s]."""
    times = []
    for _ in range(requests):
        start = time.perf_counter()
        assert ask(service.port, "POST", "/api/generate", GOOD)[0] == 200
        times.append(time.perf_counter() - start)
    return statistics.quantiles(times, n=20, method="inclusive")[-1]


@pytest.mark.parametrize(("rounds", "requests"), [(1, 5), pytest.param(9, 40, marks=pytest.mark.long)])
def test_slow_clients_do_not_slow_the_others(rounds: int, requests: int) -> None:  # fault 72
    """Side by side, because the machine has other work; in the short version nobody looks at the clock."""
    start, alone, beside = time.monotonic(), [], []
    with serving(PATIENT) as service:
        p95(service, 3)
        for _ in range(rounds):
            alone.append(p95(service, requests))
            with slow_clients(service.port, 20):
                beside.append(p95(service, requests))
        service.check_alive()
    before, after = 1000 * statistics.median(alone), 1000 * statistics.median(beside)
    text = f"{before:.0f} ms alone, {after:.0f} ms beside 20 slow clients, in the middle of {rounds} rounds"
    closing_line(f"good requests, p95: {text} of {requests}", start)
    if rounds > 1:
        assert after <= 2 * before
