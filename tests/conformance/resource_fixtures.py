"""What the suites ask of a server's own resources and prompts, written by their descriptions."""

import json
import re
from typing import Final

from mcp_types import (
    BlobResourceContents,
    ContentBlock,
    GetPromptRequestParams,
    GetPromptResult,
    InputRequiredResult,
    Prompt,
    PromptArgument,
    PromptMessage,
    TextResourceContents,
)

from .fixtures import a_png, answers_to, embedded, image, question, text, told

RESOURCES: Final = {
    "test://static-text": "text/plain",
    "test://static-binary": "image/png",
    "test://watched-resource": "text/plain",
}
TEMPLATE: Final = "test://template/{id}/data"


def contents_of(uri: str) -> TextResourceContents | BlobResourceContents | None:
    """A resource of the suites'; None where there is none."""
    if uri == "test://static-binary":
        return BlobResourceContents(uri=uri, mime_type="image/png", blob=a_png())
    if uri in RESOURCES:
        said = "This is the content of the static text resource."
        return TextResourceContents(uri=uri, mime_type="text/plain", text=said)
    if found := re.fullmatch(r"test://template/([^/]+)/data", uri):
        told = {"id": found[1], "templateTest": True, "data": f"Data for ID: {found[1]}"}
        return TextResourceContents(uri=uri, mime_type="application/json", text=json.dumps(told))
    return None


def _prompt(name: str, *arguments: str) -> Prompt:
    taken = [PromptArgument(name=one, description=one, required=True) for one in arguments]
    return Prompt(name=name, description=name, arguments=taken)


PROMPTS: Final = (
    _prompt("test_simple_prompt"),
    _prompt("test_prompt_with_arguments", "arg1", "arg2"),
    _prompt("test_prompt_with_embedded_resource", "resourceUri"),
    _prompt("test_prompt_with_image"),
    _prompt("test_input_required_result_prompt"),
)


def prompt_of(params: GetPromptRequestParams) -> GetPromptResult | InputRequiredResult | None:
    """A prompt of the suites'; None where there is none."""
    given = params.arguments or {}
    match params.name:
        case "test_simple_prompt":
            return _messages(text("This is a simple prompt for testing."))
        case "test_prompt_with_arguments":
            return _messages(text(f"Prompt with arguments: arg1='{given['arg1']}', arg2='{given['arg2']}'"))
        case "test_prompt_with_embedded_resource":
            resource = embedded(given["resourceUri"], "text/plain", "Embedded resource content for testing.")
            return _messages(resource, text("Please process the embedded resource above."))
        case "test_prompt_with_image":
            return _messages(image(), text("Please analyze the image above."))
        case "test_input_required_result_prompt":
            asked = {"user_context": question("What context should the prompt use?", "context")}
            answers = answers_to(params, asked)
            if answers is None:
                return InputRequiredResult(input_requests=dict(asked))
            return _messages(text(f"The context is {told(answers['user_context'])}."))
    return None


def _messages(*content: ContentBlock) -> GetPromptResult:
    return GetPromptResult(messages=[PromptMessage(role="user", content=one) for one in content])
