"""The delivery service promptferry.v1 over gRPC: prompts, proxies and enrolment."""
