"""What redis-py's README and its Lock's documentation show, against the server at the port that is given."""
import json
import sys
import time

import redis
from redis.exceptions import LockError, LockNotOwnedError, ResponseError, WatchError
from redis.lock import Lock

r = redis.Redis(host="127.0.0.1", port=int(sys.argv[1]), decode_responses=True)
r.flushall()

assert r.set("foo", "bar") is True
assert r.get("foo") == "bar"
assert r.get("absent") is None
assert r.incr("hits") == 1 and r.incrby("hits", 9) == 10
assert r.hset("user", mapping={"name": "Ada", "born": "1815"}) == 2
assert r.hgetall("user") == {"name": "Ada", "born": "1815"}
assert r.rpush("jobs", "a", "b") == 2 and r.lrange("jobs", 0, -1) == ["a", "b"] and r.lpop("jobs") == "a"
assert r.sadd("tags", "x", "y") == 2 and r.smembers("tags") == {"x", "y"}
assert sorted(r.scan_iter("*")) == ["foo", "hits", "jobs", "tags", "user"]
assert r.ttl("foo") == -1 and r.expire("foo", 1000) is True and 900 < r.ttl("foo") <= 1000
try:
    r.incr("foo")
    raise AssertionError("a text was incremented")
except ResponseError as error:
    assert str(error) == "value is not an integer or out of range", error

with r.pipeline() as pipe:
    assert pipe.set("a", 1).incr("a").get("a").execute() == [True, 2, "2"]
    pipe.watch("a")
    pipe.multi()
    pipe.set("a", 5)
    assert pipe.execute() == [True]
    pipe.watch("a")
    r.set("a", 6)
    pipe.multi()
    pipe.set("a", 7)
    try:
        pipe.execute()
        raise AssertionError("a watched key had changed")
    except WatchError:
        pass

with r.lock("work", timeout=60) as lock:
    assert lock.owned() and r.get("work") is not None
    assert not r.lock("work", blocking=False).acquire()
    assert lock.extend(100) and 100_000 < r.pttl("work") <= 160_000
    assert lock.reacquire() and r.pttl("work") <= 60_000
assert r.get("work") is None

held = r.lock("work", timeout=0.05)
assert held.acquire()
while r.exists("work"):
    time.sleep(0.005)
other = r.lock("work", timeout=60)
assert other.acquire()
for attempt in (held.release, lambda: held.extend(5), held.reacquire):
    try:
        if attempt != held.release:
            held.local.token = b"what it was"
        attempt()
        raise AssertionError("a lock that another one holds was touched")
    except LockNotOwnedError:
        pass
other.release()
try:
    other.release()
    raise AssertionError("released twice")
except LockError:
    pass

print(json.dumps([Lock.LUA_RELEASE_SCRIPT, Lock.LUA_EXTEND_SCRIPT, Lock.LUA_REACQUIRE_SCRIPT]))
