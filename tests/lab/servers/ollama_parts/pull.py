# Copyright (c) localmodels contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pulling a model over the registry protocol: manifest, blobs in parts, resumed where a pull before it ended."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import socket
import ssl
import time
import urllib.parse
import urllib.request

import aiohttp

from ollama_parts import go
from ollama_parts.store import IMAGE, Missing

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
TICK = 0.06             # seconds between two progress lines
PARTS, SMALLEST_PART, LARGEST_PART = 16, 100_000_000, 1000_000_000
TRIES = 6               # per part, with 1, 2, 4 ... seconds between them
ADDRESS_WITHIN = 30     # seconds in which the question for a blob's address is asked again and again
STALL = 30              # seconds without a byte, then a part starts again
CHUNK = 1 << 18


class PullError(Exception):
    """A pull that failed, in Ollama's words."""


class Registry:
    """Requests of one pull. name: Name. insecure: plain HTTP instead of HTTPS."""

    def __init__(self, session, name, insecure, version):
        self.session, self.name, self.token = session, name, None
        self.base = "%s://%s/v2/%s/%s" % ("http" if insecure else "https", name.host, name.namespace, name.model)
        self.agent = "ollama/%s (amd64 linux) Go/go1.26.8" % version

    async def ask(self, method, path, headers=None, follow=None):
        """An open answer below 400; redirects are followed while follow(url) says so. Raises PullError, FileNotFoundError."""
        url = self.base + path
        for _attempt in range(2):
            answer = await self._send(method, url, headers or {}, follow)
            if answer.status == 404:
                hang_up(answer)
                raise FileNotFoundError(errno.ENOENT, "file does not exist")
            if answer.status < 400:
                return answer
            text = await answer.text(errors="replace")
            if answer.status != 401:
                raise PullError("%d: %s" % (answer.status, text))
            self.token = await self._token(answer.headers.get("WWW-Authenticate", ""))
        raise PullError("unauthorized: access denied")

    async def _send(self, method, url, headers, follow):
        sent = {"User-Agent": self.agent, **headers}
        if method == "GET":
            sent["Accept-Encoding"] = "gzip"
        if self.token:
            sent["Authorization"] = "Bearer " + self.token
        for _hop in range(11):
            answer = await request(self.session, method, url, sent)
            target = answer.headers.get("Location")
            if answer.status not in (301, 302, 303, 307, 308) or not target:
                return answer
            if follow is not None and not follow(urllib.parse.urljoin(url, target)):
                return answer
            hang_up(answer)
            url = urllib.parse.urljoin(url, target)
        raise PullError("maximum redirects exceeded (10) for directURL")

    async def _token(self, challenge):
        """One round for a token, allowed only with the registry itself; the signature is made up."""
        values = dict(urllib.request.parse_keqv_list(urllib.request.parse_http_list(challenge.partition(" ")[2]))) \
            if challenge.startswith("Bearer ") else {}
        realm = values.get("realm", "")
        host = urllib.parse.urlsplit(realm).netloc
        if host != self.name.host:
            raise PullError("realm host %s does not match original host %s" % (go.quoted(host), go.quoted(self.name.host)))
        query = urllib.parse.urlencode({key: values[key] for key in ("service", "scope") if key in values})
        answer = await request(self.session, "GET", realm + "?" + query, {"User-Agent": self.agent})
        text = await answer.text(errors="replace")
        if answer.status >= 400:
            raise PullError("%d: %s" % (answer.status, text.rstrip("\n")))
        return json.loads(text).get("token", "")


async def request(session, method, url, headers):
    """An open answer, whatever its status. Raises PullError with Go's words for what the network said."""
    try:
        return await session.request(method, url, headers=headers, allow_redirects=False, proxy=_proxy(url),
                                     skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent"))
    except aiohttp.ClientHttpProxyError as problem:
        raise PullError('%s "%s": %s' % (method.capitalize(), url, problem.message)) from problem
    except (aiohttp.ClientError, OSError) as problem:
        raise PullError('%s "%s": %s' % (method.capitalize(), url, await _network_words(problem, url))) from problem


def _proxy(url):
    """The proxy of the environment for a URL; this machine itself is never reached through one."""
    parts = urllib.parse.urlsplit(url)
    if parts.hostname == "localhost" or parts.hostname.startswith("127.") or urllib.request.proxy_bypass(parts.hostname):
        return None
    return urllib.request.getproxies().get(parts.scheme)


async def _network_words(problem, url):
    cause = getattr(problem, "os_error", None) or problem
    if isinstance(cause, (ssl.SSLCertVerificationError, ssl.CertificateError)):
        return "tls: failed to verify certificate: x509: %s" % _certificate_words(cause)
    if isinstance(cause, ssl.SSLError) or "SSL" in type(problem).__name__:
        return await _no_tls_words(url)
    where = urllib.parse.urlsplit(url)
    if isinstance(cause, socket.gaierror):
        return "dial tcp: lookup %s: no such host" % where.hostname
    if getattr(cause, "errno", None) in (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH):
        port = where.port or (443 if where.scheme == "https" else 80)
        words = {errno.ECONNREFUSED: "connection refused", errno.EHOSTUNREACH: "no route to host"}
        return "dial tcp %s:%d: connect: %s" % (where.hostname.replace("localhost", "127.0.0.1"), port,
                                                words.get(cause.errno, "network is unreachable"))
    return "EOF"


def _certificate_words(problem):
    if "not valid for" in str(problem) or "match" in str(problem).lower():
        return "certificate is valid for another name"
    if "expired" in str(problem):
        return "certificate has expired or is not yet valid"
    return "certificate signed by unknown authority"


async def _no_tls_words(url):
    """Go tells apart a server that answers in HTTP and one that answers something else; so look at its first bytes."""
    where = urllib.parse.urlsplit(url)
    try:
        reader, writer = await asyncio.open_connection(where.hostname, where.port or 443)
        writer.write(b"\x16\x03\x01\x00\x02\x01\x00\r\n\r\n")
        head = await asyncio.wait_for(reader.read(5), 5)
        writer.close()
    except (OSError, asyncio.TimeoutError):
        head = b""
    if head == b"HTTP/":
        return "http: server gave HTTP response to HTTPS client"
    return "tls: first record does not look like a TLS handshake"


class Resolver(aiohttp.ThreadedResolver):
    """Names of hosts; none is found while the switch no_dns is on."""

    def __init__(self, faults):
        super().__init__()
        self._faults = faults

    async def resolve(self, *where, **more):
        if self._faults.get("no_dns"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return await super().resolve(*where, **more)


class Download:
    """One blob on its way into the store, shared by every pull that waits for it."""

    def __init__(self, path, digest, space=None):
        self.path, self.digest, self.space = str(path), digest, space
        self.parts, self.total, self.completed = [], 0, 0
        self.done, self.error, self.waiting, self.task = False, None, 0, None

    async def prepare(self, registry):
        """Take up the parts of an earlier pull, or ask for the size and cut it into parts."""
        number = 0
        while os.path.exists(self._part_path(number)):
            self.parts.append(self._noted(number))
            number += 1
        if not self.parts:
            answer = await registry.ask("HEAD", "/blobs/" + self.digest)
            total = int(answer.headers.get("Content-Length") or 0)
            hang_up(answer)
            size = min(max(total // PARTS, SMALLEST_PART), LARGEST_PART)
            self.parts = [{"N": index, "Offset": offset, "Size": min(size, total - offset), "Completed": 0}
                          for index, offset in enumerate(range(0, total, size))]
            for part in self.parts:
                self._keep(part)
        self.total = sum(part["Size"] for part in self.parts)
        self.completed = sum(part["Completed"] for part in self.parts)

    def _part_path(self, number):
        return "%s-partial-%d" % (self.path, number)

    def _noted(self, number):
        """A server that was killed while it wrote this leaves it empty, and no pull of the layer succeeds any more."""
        with open(self._part_path(number), encoding="utf-8", errors="replace") as file:
            text = file.read()
        try:
            return go.decode(text, "unexpected EOF" if text.strip() else "EOF")
        except ValueError as problem:
            raise PullError(str(problem)) from problem

    def _keep(self, part):
        with open(self._part_path(part["N"]), "w", encoding="utf-8") as file:
            json.dump(part, file)

    async def run(self, registry):
        try:
            await self._fetch(registry)
        except (PullError, FileNotFoundError, OSError) as problem:
            self.error = problem
        except asyncio.CancelledError:
            self.error = PullError("context canceled")
        finally:
            self.done = True

    async def _fetch(self, registry):
        target = self.path + "-partial"
        descriptor = os.open(target, os.O_CREAT | os.O_RDWR, 0o644)
        try:
            os.ftruncate(descriptor, self.total)
            url = await self._direct_url(registry)
            waiting = [part for part in self.parts if part["Completed"] < part["Size"]]
            tasks = [asyncio.ensure_future(self._part(registry.session, url, descriptor, part)) for part in waiting]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            os.close(descriptor)
        for part in self.parts:
            os.unlink(self._part_path(part["N"]))
        os.rename(target, self.path)

    async def _direct_url(self, registry):
        """Where the bytes are: another host by 307, or the Location that a 200 names."""
        host = urllib.parse.urlsplit(registry.base).hostname
        until, tries = time.monotonic() + ADDRESS_WITHIN, 0
        while True:
            try:
                answer = await registry.ask("GET", "/blobs/" + self.digest,
                                            follow=lambda url: urllib.parse.urlsplit(url).hostname == host)
                break
            except (PullError, FileNotFoundError) as problem:
                if time.monotonic() > until:
                    raise PullError("context deadline exceeded") from problem
                tries += 1
                await asyncio.sleep(min(10.0, tries * tries / 100.0))
        hang_up(answer)
        if answer.status not in (200, 307):
            raise PullError("unexpected status code %d" % answer.status)
        if "Location" not in answer.headers:
            raise PullError("http: no Location header in response")
        return urllib.parse.urljoin(str(answer.url), answer.headers["Location"])

    async def _part(self, session, url, descriptor, part):
        tries = 0
        while True:
            try:
                return await self._bytes(session, url, descriptor, part)
            except asyncio.TimeoutError:  # an OSError since Python 3.11
                continue
            except OSError as problem:
                if problem.errno == errno.ENOSPC:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self.path + "-partial") from problem
                cause = "EOF"
            except (PullError, aiohttp.ClientError) as problem:
                cause = str(problem) if isinstance(problem, PullError) else "EOF"
            tries += 1
            if tries == TRIES:
                raise PullError("max retries exceeded: %s" % cause)
            await pause(2 ** (tries - 1))

    async def _bytes(self, session, url, descriptor, part):
        """Fetch the rest of a part. What came counts where the answer was cut or cancelled, and not where it ended by itself, as a page about an error does."""
        start, stop = part["Offset"] + part["Completed"], part["Offset"] + part["Size"]
        answer = await request(session, "GET", url, {"User-Agent": "Go-http-client/1.1", "Range": "bytes=%d-%d" % (start, stop - 1)})
        at, counts = start, True
        try:
            while at < stop:
                chunk = (await asyncio.wait_for(answer.content.read(CHUNK), STALL))[:stop - at]
                if not chunk:
                    raise PullError("EOF")
                self.write(descriptor, chunk, at)
                at += len(chunk)
                self.completed += len(chunk)
        except asyncio.TimeoutError:  # an OSError since Python 3.11
            raise
        except (OSError, PullError):
            counts = False
            self.completed -= at - start
            raise
        finally:
            hang_up(answer)
            if counts:
                part["Completed"] = at - part["Offset"]
                self._keep(part)

    def write(self, descriptor, chunk, at):
        if self.space is not None and at + len(chunk) > self.space:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        while chunk:
            written = os.pwrite(descriptor, chunk, at)
            chunk, at = chunk[written:], at + written


def hang_up(answer):
    """As Go does it, at once: a TLS connection of Python's waits half a minute for the other side to close it too."""
    if answer.connection is not None and answer.connection.transport is not None:
        answer.connection.transport.abort()
    answer.close()


async def pause(seconds):
    """As Go's time.Sleep: whoever is cancelled in it notices it afterwards. Until then the download is there, and a pull that joins it dies with it."""
    over, cancelled = asyncio.ensure_future(asyncio.sleep(seconds)), False
    while not over.done():
        try:
            await asyncio.shield(over)
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError


class Puller:
    """Pulls into one store. noprune: keep the layers an update no longer needs. faults: dict of the lab's switches."""

    def __init__(self, store, version, noprune, faults):
        self.store, self.version, self.noprune, self.faults = store, version, noprune, faults
        self.session, self.downloads = None, {}

    async def pull(self, name, insecure):
        """The lines of a pull, one dict after the other; raises PullError at its end where it fails."""
        if self.session is None:
            # No connection is kept: with Debian's aiohttp 3.8 a request on a kept one now and then gets no answer.
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=0, ssl=ssl.create_default_context(),
                                             resolver=Resolver(self.faults))
            self.session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None, sock_connect=30))
        old = self._layers_of(name)
        yield {"status": "pulling manifest"}
        registry = Registry(self.session, name, insecure, self.version)
        try:
            raw, manifest = await self._manifest(registry, name)
        except (PullError, FileNotFoundError, ValueError) as problem:
            text = "file does not exist" if isinstance(problem, FileNotFoundError) else str(problem)
            raise PullError("pull model manifest: %s" % text) from problem
        layers = [*(manifest.get("layers") or []), *([manifest["config"]] if (manifest.get("config") or {}).get("digest") else [])]
        if any(layer.get("mediaType") == IMAGE + "tensor" for layer in layers):
            raise PullError("this model requires MLX support, but the MLX runtime is not available")
        try:
            fresh = []
            for layer in layers:
                async for line in self._blob(registry, layer["digest"], fresh):
                    yield line
            yield {"status": "verifying sha256 digest"}
            for digest in fresh:
                await self._verify(digest)
            yield {"status": "writing manifest"}
            self.store.write_manifest(name, raw)
        except FileNotFoundError as problem:
            raise PullError("file does not exist" if problem.filename is None else go.os_error(problem)) from problem
        except OSError as problem:
            raise PullError(go.os_error(problem)) from problem
        unused = old - {layer["digest"] for layer in layers}
        if unused and not self.noprune:
            yield {"status": "removing unused layers"}
            self.store.drop(unused)
        yield {"status": "success"}

    def _layers_of(self, name):
        try:
            model = self.store.read(name)
        except (Missing, ValueError, OSError, go.Refusal):
            return set()
        return {layer["digest"] for layer in model.layers} | ({model.config_digest} - {""})

    async def _manifest(self, registry, name):
        answer = await registry.ask("GET", "/manifests/" + name.tag, {"Accept": MANIFEST})
        raw = await answer.read()
        manifest = go.decode(raw.decode("utf-8", "replace"), "unexpected end of JSON input")
        if not isinstance(manifest, dict):
            raise ValueError("json: cannot unmarshal into Go value of type manifest.Manifest")
        return raw, manifest

    async def _blob(self, registry, digest, fresh):
        path = self.store.blob(digest)
        line = {"status": "pulling %s" % digest[7:19], "digest": digest}
        if path.exists():
            size = path.stat().st_size
            yield {**line, "total": size, "completed": size}
            return
        download = self.downloads.get(digest)
        if download is None:
            download = self.downloads[digest] = Download(path, digest, self.faults.get("disk_full"))
            try:
                await download.prepare(registry)
            except BaseException:
                del self.downloads[digest]  # whoever waits for it waits for ever: so does the real server
                raise
            download.task = asyncio.ensure_future(download.run(registry))
            download.task.add_done_callback(lambda _task: self.downloads.pop(digest, None))
        download.waiting += 1
        try:
            while not download.done:
                await self._tick(download)
                if not download.done:
                    numbers = {"total": download.total, "completed": download.completed}
                    yield {**line, **{key: number for key, number in numbers.items() if number}}
        finally:
            download.waiting -= 1
            if not download.waiting and download.task is not None:
                download.task.cancel()
        if download.error is not None:
            raise download.error
        fresh.append(digest)

    @staticmethod
    async def _tick(download):
        if download.task is None:
            await asyncio.sleep(TICK)
        else:
            await asyncio.wait([download.task], timeout=TICK)

    async def _verify(self, digest):
        path = self.store.blob(digest)
        found = await asyncio.get_running_loop().run_in_executor(None, _sha256, path)
        if found != digest:
            path.unlink()
            raise PullError("digest mismatch, file must be downloaded again: want %s, got %s" % (digest, found))


def _sha256(path):
    total = hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(1 << 20), b""):
            total.update(chunk)
    return "sha256:" + total.hexdigest()
