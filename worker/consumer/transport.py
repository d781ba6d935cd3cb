"""kombu's Redis transport, extended: a bounded number of connections, and no fatal message.

kombu raises an exception for a message that it cannot read, and Celery for one that it cannot run.
Both end the consumer, and the next one receives the same message. Here such a message is set aside
(`producer/ledger/malformed.py`), and the consumer takes the next.

At Redis' memory limit kombu loses the message that it has just taken, and a closed channel leaves
connections open. Here a taken message is recorded in any case, and a closed channel has none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from queue import Empty
from typing import Any, ClassVar, Final, TypeVar

import redis
from celery.utils.log import get_logger
from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as kombu_redis
from kombu.transport.virtual import base as virtual
from kombu.utils.json import dumps

from producer.connection.outage import is_transient
from producer.ledger.keys import Keys
from producer.ledger.malformed import MalformedMessages
from worker.consumer import compression, thread_pool
from worker.consumer.envelope import describe

log = get_logger(__name__)
Value = TypeVar("Value")

#: Errors of Redis or of its connection, never of a message.
SERVICE_ERRORS: Final = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.ResponseError,
    OSError,
)
#: Records a taken message. The first write needs no memory: after it, Redis allows the others at
#: its memory limit. KEYS: the index; ARGV: the hash, tag, time (Unix s), message.
_APPEND: Final = """
redis.call('ZREM', KEYS[1], '')
redis.call('ZADD', KEYS[1], ARGV[3], ARGV[2])
redis.call('HSET', ARGV[1], ARGV[2], ARGV[4])
"""


def _is_wrong_type(error: Exception) -> bool:
    """Return whether a key has another type than the command needs; a script wraps the error."""
    return isinstance(error, redis.ResponseError) and "wrong kind of value" in str(error)


class DurableQoS(kombu_redis.QoS):
    """The unacknowledged messages, which are recorded and restored in any state of Redis."""

    #: The tag of the message that is being delivered.
    current_tag: Any = None

    def append(self, message: Any, delivery_tag: Any) -> None:
        """Record a taken message."""
        self.channel.append_unacked(message, delivery_tag)
        virtual.QoS.append(self, message, delivery_tag)
        self.current_tag = delivery_tag

    def discard_current(self) -> None:
        """Forget the message that is being delivered, if it has been recorded."""
        if self.current_tag is not None:
            self.reject(self.current_tag, requeue=False)

    def restore_visible(self, *args: Any, **kwargs: Any) -> None:
        """Return messages of dead consumers to their queues, unless Redis takes no writes."""
        restore = super().restore_visible
        try:
            self.channel.mend(partial(restore, *args, **kwargs))
        except redis.ResponseError as error:
            if not is_transient(error):
                raise
            log.warning("Redis: %s; unacknowledged messages are restored later", error)

    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:
        """Return a message to its queue; set it aside if that is impossible."""
        try:
            super().restore_by_tag(tag, client, leftmost)
        except SERVICE_ERRORS:
            raise
        except Exception as error:
            self.channel.set_aside_unacked(tag, error)
            self._remove_from_indices(tag).execute()

    def restore_unacked(self, client: Any = None) -> None:
        """Return the messages of a closed channel; the rest return after the visibility timeout."""
        try:
            super().restore_unacked(client)
        except SERVICE_ERRORS as error:
            log.warning("Redis: %s; unacknowledged messages return to their queues later", error)
        self._delivered.clear()


class CapturingClient(kombu_redis.PrefixedStrictRedis):
    """A client that remembers the queue and the message of the last BRPOP."""

    taken: tuple[bytes, bytes] | None = None

    def pipeline(self, transaction: bool = False, shard_hint: Any = None) -> Any:
        """Return a pipeline, by default not a transaction: a full Redis rejects even reads in one.

        kombu's pipelines are acknowledgements, lengths and bindings. Its transactions ask for one.
        """
        return super().pipeline(transaction, shard_hint)

    def parse_response(self, connection: Any, command_name: str, **options: Any) -> Any:
        """Read a response."""
        response = super().parse_response(connection, command_name, **options)
        if command_name == "BRPOP":
            self.taken = tuple(response) if response else None
        return response


class _Guard:
    """A mixin of channels that survive every message, and that close all of their connections."""

    #: A client for closed channels.
    spare_client: ClassVar[redis.Redis]
    #: The store of the messages that are set aside.
    malformed: ClassVar[MalformedMessages]
    QoS = DurableQoS

    def _get_client(self) -> Callable[..., redis.Redis]:
        return partial(CapturingClient, global_keyprefix=self._channel.global_keyprefix)

    @property
    def _channel(self) -> Any:
        """This object, with the attributes of kombu's channel."""
        return self

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        """Lend a client. A job that ends after its channel was closed is still acknowledged."""
        parent: Any = super()
        if client is None and self._channel.connection is None:
            client = self._get_client()(connection_pool=self.spare_client.connection_pool)
        with parent.conn_or_acquire(client) as lent:
            yield lent

    @cached_property
    def _append_script(self) -> Any:
        return self._channel._create_client().register_script(_APPEND)

    def append_unacked(self, message: Any, tag: Any) -> None:
        """Record a taken message as unacknowledged."""
        channel, delivery = self._channel, message.delivery_info
        entry = dumps([message._raw, delivery["exchange"], delivery["routing_key"]])
        # kombu's client adds the prefix to the key only.
        arguments = [channel.global_keyprefix + channel.unacked_key, tag, time.time(), entry]
        with channel.conn_or_acquire() as client:
            keys = [channel.unacked_index_key]
            self.mend(lambda: self._append_script(keys=keys, args=arguments, client=client))

    def set_aside_unacked(self, tag: Any, error: Exception) -> None:
        """Set aside an entry of the unacknowledged messages."""
        channel = self._channel
        with channel.conn_or_acquire() as client:
            entry = client.hget(channel.unacked_key, tag) or b""
        self._set_aside(channel.unacked_key, entry, error)

    def set_aside_message(self, message: Any, error: Exception) -> None:
        """Set aside a message that was delivered; the caller acknowledges it."""
        queue = str(message.delivery_info.get("routing_key"))
        self._set_aside(queue, dumps(message._raw).encode(), error)

    def mend(self, call: Callable[[], Value]) -> Value:
        """Return call(). If a key of the broker has a wrong type, rename it and call again."""
        try:
            return call()
        except redis.ResponseError as error:
            if not _is_wrong_type(error):
                raise
            self._displace()
            return call()

    def _displace(self) -> None:
        """Rename every key of the broker that has a wrong type."""
        channel = self._channel
        types = {
            channel._q_for_pri(queue, priority): "list"
            for queue in channel._active_queues
            for priority in channel.priority_steps
        }
        types |= {channel.unacked_key: "hash", channel.unacked_index_key: "zset"}
        for exchange in channel.state.exchanges:
            for form in (channel.keyprefix_queue, channel.keyprefix_binding_permanent):
                types[form % (exchange,)] = "set"
        for entry in self.malformed.displace(types):
            log.error("%s (dead letter %s)", entry.reason, entry.id)

    def _set_aside(self, queue: str, message: bytes, error: Exception) -> None:
        reason = describe(error)
        log.error(
            "a message of %d bytes in %s cannot be processed: %s", len(message), queue, reason
        )
        self.malformed.add(queue, message, reason)

    def _brpop_read(self, **options: Any) -> Any:
        """Take a message and deliver it to Celery; set it aside if that is impossible."""
        channel = self._channel
        client, qos = channel.client, channel.qos
        client.taken = qos.current_tag = None
        parent: Any = super()
        try:
            return parent._brpop_read(**options)
        except SERVICE_ERRORS as error:
            if _is_wrong_type(error):
                self._displace()
            elif not channel._closing:
                raise
            raise Empty from None
        except Exception as error:
            if isinstance(error, Empty) or client.taken is None:
                raise
            queue, message = client.taken
            self._set_aside(queue.decode(errors="replace"), message, error)
            qos.discard_current()
            return True

    def _receive_one(self, subscriber: Any) -> Any:
        """Read a broadcast message, a remote control command; drop a malformed one."""
        parent: Any = super()
        try:
            return parent._receive_one(subscriber)
        except (Empty, *SERVICE_ERRORS):
            raise
        except Exception as error:
            log.error("a malformed remote control command was dropped: %s", describe(error))

    def _queue_bind(self, *args: Any) -> None:
        """Record a binding, which consumers do not need, unless Redis takes no writes."""
        parent: Any = super()
        try:
            self.mend(partial(parent._queue_bind, *args))
        except redis.ResponseError as error:
            if not is_transient(error):
                raise
            log.warning("Redis: %s; the binding of a queue is not recorded", error)

    def close(self) -> None:
        """Close the channel and all of its connections, in any state of Redis."""
        parent: Any = super()
        try:
            parent.close()
        except SERVICE_ERRORS as error:
            log.warning("Redis: %s", error)
            virtual.Channel.close(self._channel)
        finally:
            # The return of unacknowledged messages opens further connections.
            self._channel._disconnect_pools()


class GuardedChannel(_Guard, kombu_redis.Channel):
    """A channel to one Redis."""


class GuardedSentinelChannel(_Guard, kombu_redis.SentinelChannel):
    """A channel to the master of a group of sentinels."""


class GuardedTransport(kombu_redis.Transport):
    """The transport for redis:// and rediss://."""

    Channel = GuardedChannel


class GuardedSentinelTransport(kombu_redis.SentinelTransport):
    """The transport for sentinel://."""

    Channel = GuardedSentinelChannel


def install(client: redis.Redis, keys: Keys) -> None:
    """Let kombu use these transports in this process; `client` is for malformed messages.

    The pool and the decompression are part of the guard.

    Celery's setting `broker_transport` is not sufficient: kombu reads the scheme of the next URL
    after a failover.
    """
    _Guard.spare_client, _Guard.malformed = client, MalformedMessages(client, keys)
    transports = dict.fromkeys(("redis", "rediss"), f"{__name__}:{GuardedTransport.__name__}")
    transports["sentinel"] = f"{__name__}:{GuardedSentinelTransport.__name__}"
    TRANSPORT_ALIASES.update(transports)
    compression.install()
    thread_pool.install()
