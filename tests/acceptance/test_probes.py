"""What an orchestrator's probes see of a real agent process that has no certificate for them."""

import subprocess
import sys
import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from federation.wire.v1 import holdings_pb2 as pb
from loadtest.fleet import free_port


@pytest.mark.slow
def test_the_probe_port_tells_that_the_agent_serves_and_nothing_else(tmp_path):
    probes, listen = free_port(), free_port()
    folder = tmp_path / "archive"
    command = [sys.executable, "-m", "node_agent"]
    init = ["init", "--data", str(folder), "--archive", "330483", "--name", "桐乡市档案馆"]
    subprocess.run(
        [*command, *init, "--listen", f"127.0.0.1:{listen}", "--plaintext-on-loopback"],
        check=True,
        timeout=30,
    )
    with (folder / "archive.toml").open("a", encoding="utf-8") as settings:
        settings.write(f'health_listen = "127.0.0.1:{probes}"\n')
    agent = subprocess.Popen([*command, "run", "--data", str(folder)], stderr=subprocess.DEVNULL)
    try:
        with grpc.insecure_channel(f"127.0.0.1:{probes}") as channel:
            grpc.channel_ready_future(channel).result(timeout=20)
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
            ask = channel.unary_unary(
                "/federation.wire.v1.Holdings/Describe",
                request_serializer=pb.DescribeRequest.SerializeToString,
                response_deserializer=pb.Manifest.FromString,
            )
            with pytest.raises(grpc.RpcError) as refused:
                ask(pb.DescribeRequest(), timeout=5)
            assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
        agent.terminate()
        ended = time.monotonic() + 15
        while agent.poll() is None and time.monotonic() < ended:
            time.sleep(0.05)
        assert agent.returncode == 0
    finally:
        agent.kill()
        agent.wait(5)
