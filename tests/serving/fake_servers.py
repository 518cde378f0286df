"""Servers on 127.0.0.1 that answer as vLLM's and llama.cpp's do, with faults on request."""

from __future__ import annotations

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextlib.contextmanager
def listening(routes):
    """The address of a server with these routes: path -> a function of the request's JSON.

    A route returns a JSON value, or a status and a value, or bytes to send as they are.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            self.asked(body)

        def do_GET(self):
            self.asked(None)

        def asked(self, body):
            server.requests.append((self.path, body, dict(self.headers)))
            route = routes.get(self.path)
            answer = route(body) if route else (404, {"detail": "Not Found"})
            if isinstance(answer, bytes):
                with contextlib.suppress(OSError):
                    self.wfile.write(answer)
                return
            status, value = answer if isinstance(answer, tuple) else (200, answer)
            payload = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.requests = []
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)


def models(body):
    return {"object": "list", "data": [{"id": "tuned", "object": "model"}]}


def vllm(tokenizer, *, change=lambda messages: messages, after=lambda ids: ids):
    """vLLM's routes: its prompts are plain transformers', so control tokens in text come alive."""

    def prompt(body):
        messages = [{**m, "content": m["content"]} for m in change(body["messages"])]
        return tokenizer.apply_chat_template(
            messages,
            tools=body.get("tools"),
            add_generation_prompt=True,
            tokenize=True,
            return_dict=False,
        )

    def tokenize(body):
        if body["model"] != "tuned":
            return 404, {"error": {"message": "The model does not exist.", "code": 404}}
        if "prompt" in body:
            ids = tokenizer(body["prompt"], add_special_tokens=False)["input_ids"]
        else:
            ids = after(prompt(body))
        return {"count": len(ids), "max_model_len": 4096, "tokens": ids, "token_strs": None}

    def completions(body):
        choice = {"index": 0, "message": {"role": "assistant", "content": "x"}}
        answer = {"object": "chat.completion", "choices": [choice]}
        if body.get("return_token_ids"):
            answer["prompt_token_ids"] = after(prompt(body))
        return answer

    return {"/v1/models": models, "/tokenize": tokenize, "/v1/chat/completions": completions}


def llama_cpp(tokenizer, *, add_bos=False, strips_bos=True, change=lambda messages: messages):
    """llama.cpp's routes: /tokenize is for text, and says of messages only that there is none.

    A vocabulary with add_bos writes a bos before all text, and the template's own is taken off.
    """

    def apply_template(body):
        text = tokenizer.apply_chat_template(
            change(body["messages"]),
            tools=body.get("tools"),
            add_generation_prompt=True,
            tokenize=False,
        )
        if add_bos and strips_bos:
            text = text.removeprefix(tokenizer.bos_token)
        return {"prompt": text}

    def tokenize(body):
        if "content" not in body:
            return {"tokens": []}
        special = [tokenizer.bos_token_id] if add_bos and body["add_special"] else []
        options = {} if body.get("parse_special", True) else {"split_special_tokens": True}
        ids = tokenizer(body["content"], add_special_tokens=False, **options)["input_ids"]
        return {"tokens": [*special, *ids]}

    return {"/v1/models": models, "/apply-template": apply_template, "/tokenize": tokenize}
