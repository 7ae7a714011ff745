"""A vendor's sentence and code, wherever vendors put them."""

from typing import Any

import pytest

from outpaint_mcp.providers.rejections import find_code, find_message


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        (None, "", None),
        ("text", "", None),
        ({}, "", None),
        ({"error": "no"}, "no", None),
        ({"error": " "}, "", None),
        ({"error": {"message": "no", "code": "e1", "type": "x"}}, "no", "e1"),
        ({"error": {"code": 4007001, "error_message": "no"}}, "no", "4007001"),
        ({"error": {"code": 0, "message": ""}, "message": "no", "code": 12}, "no", "12"),
        ({"status": {"code": 403, "message": "no", "error_code": 40201}}, "no", "40201"),
        ({"status": "failed", "error": {"code": 0, "raw_message": "no"}}, "no", None),
        ({"success": False, "message": "no"}, "no", None),
        ({"code": True, "detail": "no"}, "no", None),
        ({"error": {"error": {"message": "too deep"}}}, "", None),
        ({"error": {"code": 422, "message": "Unprocessable", "details": "no image"}}, "Unprocessable; no image", "422"),
        ({"message": "no", "details": {"zoom": ["wrong"]}}, "no", None),
        (
            {"detail": [{"loc": ["body", "width"], "msg": "too small", "type": "ge"}, {"loc": ["body"], "msg": "no"}]},
            "width: too small; no",
            "ge",
        ),
        ({"id": "1", "name": "bad_request", "errors": ["image: is required", 7]}, "image: is required", "bad_request"),
        ({"detail": [{"msg": {}}], "errors": []}, "", None),
    ],
)
def test_a_vendors_sentence_and_code_are_found_wherever_they_stand(body: Any, message: str, code: str | None) -> None:
    assert find_message(body) == message
    assert find_code(body) == code
