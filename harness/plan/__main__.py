"""Print the JSON Schema of plan files: ``python -m harness.plan > docs/plan.schema.json``."""

import json

from harness.core.flags import Parser
from harness.plan.file import schema_of
from harness.plan.parse import add_plan_flags

parser = Parser()
add_plan_flags(parser, containers=True)
print(json.dumps(schema_of(parser.foldable), indent=2, ensure_ascii=False))  # noqa: T201
