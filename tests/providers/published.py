"""Answers in the shapes that the vendors' documentation publishes, to an order and to the question how it stands."""

from typing import Any

TIMES = {"created_at": "2026-09-01T10:00:00Z", "started_at": "", "ended_at": "0001-01-01T00:00:00Z"}


def job(status: str, **changes: Any) -> dict[str, Any]:
    """Legnext's job object, which is also PiAPI's unified task."""
    return {
        "job_id": "5b0e8b1a-0000-4000-8000-000000000001",
        "model": "midjourney",
        "task_type": "outpaint",
        "status": status,
        "config": {"service_mode": "public", "webhook_config": {"endpoint": "", "secret": ""}},
        "input": None,
        "output": {"image_url": "", "image_urls": None, "seed": "", "available_actions": None},
        "meta": {**TIMES, "usage": {"type": "point", "frozen": 80, "consume": 0}},
        "detail": None,
        "logs": [],
        "error": {"code": 0, "raw_message": "", "message": "", "detail": None},
        **changes,
    }


def prediction(status: str, **changes: Any) -> dict[str, Any]:
    """Replicate's prediction: the fields that its SDK lists, with the id and the version of the page's answer."""
    address = "https://api.replicate.com/v1/predictions/gm3qorzdhgbfurvjtvhg6dckhu"
    return {
        "id": "gm3qorzdhgbfurvjtvhg6dckhu",
        "model": "bria/expand-image",
        "version": "hidden",
        "input": {"prompt": "sea"},
        "output": None,
        "logs": "",
        "error": None,
        "status": status,
        "created_at": "2026-09-01T10:00:00.000Z",
        "started_at": None,
        "completed_at": None,
        "data_removed": False,
        "metrics": {},
        "urls": {"get": address, "cancel": f"{address}/cancel", "web": "", "stream": ""},
        "deadline": None,
        **changes,
    }


def comfyui_history(word: str, *messages: list[Any], **images: list[dict[str, str]]) -> dict[str, Any]:
    """ComfyUI's history of a prompt: what 0.27.0 answered, its graph shortened."""
    prompt_id = "3b9be68b-23f9-42d0-95e8-117e54165277"
    saver = {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "outpaint-mcp/op-1"}}
    extra = {"client_id": "975b6574-2f22-4cef-993a-131a80ddc57c", "create_time": 1795641310197}
    told = [
        ["execution_start", {"prompt_id": prompt_id, "timestamp": 1795641310198}],
        ["execution_cached", {"nodes": ["1", "2"], "prompt_id": prompt_id, "timestamp": 1795641310199}],
        *messages,
    ]
    return {
        prompt_id: {
            "prompt": [16, prompt_id, {"3": saver}, extra, ["3", "5"]],
            "outputs": {node.removeprefix("node_"): {"images": saved} for node, saved in images.items()},
            "status": {"status_str": word, "completed": word == "success", "messages": told},
            "meta": {},
        }
    }


FOUR = [f"https://cdn.example.com/{at}.png" for at in range(4)]

OWN_IMAGES: dict[str, list[str]] = {
    "comfyui": ["http://127.0.0.1:9/view?filename=op-1_00001_.png&subfolder=outpaint-mcp&type=output"]
}
"""The images that the answers of an engine name, which are its own."""

# A vendor whose answer is the image has one in PAINTED only; one whose result is read apart from the state has it in
# RESULTS.
SUBMITTED: dict[str, list[Any]] = {
    # fal.md: what its SDK reads, and the published example of an order with a webhook.
    "fal": [
        {
            "request_id": "024ca5b1-45d3-4afd-883e-ad3abe2a1c4d",
            "response_url": "https://queue.fal.run/fal-ai/flux-2-pro/requests/024ca5b1-45d3-4afd-883e-ad3abe2a1c4d",
            "status_url": "https://queue.fal.run/fal-ai/flux-2-pro/requests/024ca5b1-45d3-4afd-883e-ad3abe2a1c4d/status",
            "cancel_url": "https://queue.fal.run/fal-ai/flux-2-pro/requests/024ca5b1-45d3-4afd-883e-ad3abe2a1c4d/cancel",
            "status": "IN_QUEUE",
            "queue_position": 3,
        },
        {
            "request_id": "024ca5b1-45d3-4afd-883e-ad3abe2a1c4d",
            "gateway_request_id": "024ca5b1-45d3-4afd-883e-ad3abe2a1c4d",
        },
    ],
    # bfl.md, the published example, and the shape with a webhook by the OpenAPI document.
    "bfl": [
        {"id": "gen_abc123xyz", "polling_url": "https://api.bfl.ai/v1/get_result?id=gen_abc123xyz"},
        {"id": "gen_abc123xyz", "status": "Pending", "webhook_url": "https://example.com/hook", "cost": 10},
        {"id": "x", "polling_url": "https://api.eu.bfl.ai/v1/get_result?id=x", "cost": None, "output_mp": 2},
    ],
    "legnext": [job("pending")],
    "vtrix": [{"id": "d758n65e", "created_at": 1769000000, "status": "in_progress", "model": "midjourney_outpaint"}],
    "apiframe": [{"jobId": "5b0e8b1a-0000-4000-8000-000000000001", "status": "QUEUED"}],
    "apimart": [{"code": 200, "data": [{"status": "submitted", "task_id": "task_1"}]}],
    "piapi": [{"task_id": "5b0e8b1a-0000-4000-8000-000000000001", "status": "success", "message": ""}],
    # As 0.27.0 answered.
    "comfyui": [{"prompt_id": "3b9be68b-23f9-42d0-95e8-117e54165277", "number": 16, "node_errors": {}}],
    # "One published example".
    "replicate": [prediction("starting")],
    # Bria-AI/bria-skill (2026-06); with `sync`, and `warning`: docs.bria.ai (2026-07).
    "bria": [
        {"request_id": "abc-123", "status_url": "https://engine.prod.bria-api.com/v2/status/abc-123"},
        {"request_id": "abc-123", "result": {"image_url": FOUR[0], "seed": 1, "prompt": "a lake"}, "warning": "no"},
    ],
}

PAINTED: dict[str, list[Any]] = {
    # openai.md, the published example.
    "openai": [
        {
            "created": 1713833628,
            "data": [{"b64_json": "aW1hZ2U="}],
            "background": "transparent",
            "output_format": "png",
            "size": "1024x1024",
            "quality": "high",
            "usage": {
                "total_tokens": 100,
                "input_tokens": 50,
                "output_tokens": 50,
                "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
            },
        }
    ],
    # stability.md, the answers to an order.
    "stability": [{"image": "aW1hZ2U=", "finish_reason": "SUCCESS", "seed": 343940597}],
    # a1111.md: a web UI's answer, one with a grid, SD.Next's and sd-server's.
    "sdapi": [
        {"images": ["aW1hZ2U="], "parameters": {}, "info": '{"all_seeds": [3], "index_of_first_image": 0}'},
        {"images": ["Z3JpZA==", "aW1hZ2U=", "aW1hZ2U="], "info": '{"all_seeds": [3, 4], "index_of_first_image": 1}'},
        {"images": ["data:image/png;base64,aW1hZ2U="], "parameters": {"seed": 3}, "info": ""},
        {"images": ["aW1hZ2U="], "info": '{"seed": 3, "version": "stable-diffusion.cpp"}'},
    ],
    # iopaint.md: the picture's bytes.
    "iopaint": [b"image"],
}

RESULTS: dict[str, list[Any]] = {
    # fal.md, the outpaint's "full example" and the published webhook's payload, each with another address; the result
    # of Bria's model by the SDK's types.
    "fal": [
        {"images": [{"url": FOUR[0]}]},
        {
            "images": [
                {
                    "url": FOUR[0],
                    "content_type": "image/png",
                    "file_name": "image.png",
                    "file_size": 1824075,
                    "width": 1024,
                    "height": 1024,
                }
            ],
            "seed": 196619188014358660,
        },
        {"image": {"url": FOUR[0]}, "seed": 7},
    ],
}

FETCHED: dict[str, list[Any]] = {
    # fal.md, by what its SDK reads.
    "fal": [
        {"status": "IN_QUEUE", "queue_position": 3},
        {"status": "IN_PROGRESS", "logs": None},
        {"status": "COMPLETED", "logs": None, "metrics": {"inference_time": 3.7}},
        {"status": "COMPLETED", "logs": None, "error": "flagged", "error_type": "content_policy_violation"},
    ],
    # bfl.md, the published example; the failures by its words for states.
    "bfl": [
        {"status": "Pending"},
        {"id": "x", "status": "Generating", "result": None, "progress": 0.4, "details": None, "preview": None},
        {"status": "Ready", "result": {"sample": FOUR[0], "prompt": "...", "seed": 1234567890}},
        {"id": "x", "status": "Error", "result": None, "details": {"message": "no"}},
        {"id": "x", "status": "Request Moderated", "result": None, "details": {"Moderation Reasons": ["a"]}},
        {"id": "x", "status": "Content Moderated"},
    ],
    "legnext": [
        job("processing"),
        job(
            "completed",
            output={
                "image_url": "https://cdn.example.com/grid.png",
                "image_urls": FOUR,
                "seed": "1",
                "available_actions": {"outpaint": [0, 1, 2, 3], "reroll": True},
            },
            meta={**TIMES, "usage": {"type": "point", "frozen": 0, "consume": 80}},
        ),
        job("failed", error={"code": 403, "raw_message": "x", "message": "sensitive content", "detail": None}),
    ],
    "vtrix": [
        {"id": "d758n65e", "created_at": 1769000000, "status": "in_progress", "progress": 0.4, "output": None},
        {
            "id": "d758n65e",
            "status": "completed",
            "progress": 1.0,
            "output": [{"content": [{"type": "image", "url": url, "jobId": "remote"} for url in FOUR]}],
            "usage": {"cost": "0.0357", "discount": 0.7},
            "metadata": {"in_queue_at": 1, "upload_at": 2, "completed_at": 3},
        },
        {
            "id": "d758n65e",
            "status": "completed",
            "output": [{"content": [{"type": "image", "url": url, "jobId": "remote"}]} for url in FOUR],
        },
        {"id": "d758n65e", "status": "failed", "error": {"code": 4007098, "error_message": "generation failed"}},
        {"id": "d758n65e", "status": "failed", "error": "a plain string"},
    ],
    "apiframe": [
        {"id": "5b0e8b1a-0000-4000-8000-000000000001", "status": "PROCESSING", "progress": 30, "result": None},
        {
            "id": "5b0e8b1a-0000-4000-8000-000000000001",
            "status": "COMPLETED",
            "progress": 100,
            "result": {"images": FOUR, "gridUrl": "https://cdn.example.com/grid.png"},
            "creditCost": 16,
            "error": None,
            "expired": False,
        },
        {"id": "x", "status": "COMPLETED", "progress": 100, "result": FOUR[0], "creditCost": 4},
        {"id": "x", "status": "FAILED", "error": "moderated", "creditCost": 0},
    ],
    "apimart": [
        {"id": "task_1", "status": "IN_PROGRESS", "action": "ZOOM", "progress": "40%", "image_urls": None},
        {
            "id": "task_1",
            "status": "SUCCESS",
            "action": "ZOOM",
            "progress": "100%",
            "grid_image_url": "https://cdn.example.com/grid.png",
            "image_urls": FOUR,
            "buttons": [{"customId": "MJ::Outpaint::50", "label": "Zoom Out 2x"}],
            "cost": 0.055,
            "credits_cost": 55,
        },
        {"id": "task_1", "status": "FAILURE", "fail_reason": "banned prompt"},
        {
            "code": 200,
            "data": {
                "id": "task_1",
                "status": "completed",
                "progress": 100,
                "result": {"images": [{"url": FOUR, "expires_at": 1790000000}]},
                "cost": 0.055,
            },
        },
    ],
    "piapi": [
        {"task_id": "x", "status": "processing", "task_result": {"task_progress": 40}},
        {
            "task_id": "x",
            "status": "finished",
            "task_result": {
                "image_url": "https://cdn.example.com/grid.png",
                "image_urls": None,
                "temporary_image_urls": FOUR,
                "task_progress": 100,
                "actions": ["reroll", "upscale1"],
                "quota_used": 1,
            },
        },
        {"task_id": "x", "status": "failed", "task_result": {"message": "no", "error_messages": ["no"]}},
        {
            "code": 200,
            "message": "success",
            "data": {
                **job("completed", output={"image_url": FOUR[0], "image_urls": None, "temporary_image_urls": FOUR}),
                "task_id": "x",
            },
        },
    ],
    # ComfyUI 0.27.0 (November 2026): a success, an error and an interruption.
    "comfyui": [
        comfyui_history(
            "success",
            ["execution_success", {"timestamp": 1795641310210}],
            node_3=[{"filename": "op-1_00001_.png", "subfolder": "outpaint-mcp", "type": "output"}],
            node_5=[{"filename": "ComfyUI_temp_dliev_00001_.png", "subfolder": "", "type": "temp"}],
        ),
        comfyui_history(
            "error",
            [
                "execution_error",
                {
                    "node_id": "1",
                    "node_type": "LoadImage",
                    "exception_message": "cannot identify image file '/srv/comfy/input/bad.png'\n",
                    "exception_type": "PIL.UnidentifiedImageError",
                    "traceback": ["<7 frames cut>"],
                },
            ],
        ),
        comfyui_history("error", ["execution_interrupted", {"node_id": "3", "node_type": "SaveImage"}]),
    ],
    # "Answers": the states, and an output that is a string or a list.
    "replicate": [
        prediction("processing", started_at="2026-09-01T10:00:01.000Z"),
        prediction(
            "succeeded",
            output=FOUR[0],
            completed_at="2026-09-01T10:00:20.000Z",
            metrics={"predict_time": 18.5, "total_time": 20.0},
        ),
        prediction("succeeded", output=FOUR[:1]),
        prediction("failed", error="The input or output was flagged as sensitive. (E005)"),
        prediction("canceled"),
    ],
    # docs.bria.ai (2026-07) and bria-client 0.3.1; FAILED is the word of Bria-AI/bria-skill (2026-06).
    "bria": [
        {"request_id": "abc-123", "status": "IN_PROGRESS"},
        {"status": "COMPLETED", "result": {"image_url": FOUR[0]}, "request_id": "abc-123"},
        {
            "request_id": "abc-123",
            "status": "ERROR",
            "error": {"code": 502, "message": "Bad Gateway", "details": "upstream failed"},
        },
        {"request_id": "abc-123", "status": "FAILED", "error": None},
    ],
}
