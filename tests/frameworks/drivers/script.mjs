// What the scripted model of every driver on Node does; script.py says the same for Python.

export function* conversation(order, refused, seen) {
  const began = performance.now();
  let answer = yield ["outpaint", order];
  seen.first_answer = answer;
  seen.seconds_to_first_answer = (performance.now() - began) / 1000;
  const task_id = answer.match(/\bop-[\w-]+/)?.[0];
  if (!task_id) return;
  seen.task_id = task_id;
  let advised;
  while ((advised = answer.match(/Call get_task with task_id=[\w-]+(?: and wait_seconds=([\d.]+))?/))) {
    answer = yield ["get_task", { task_id, ...(advised[1] && { wait_seconds: Number(advised[1]) }) }];
  }
  seen.last_answer = answer;
  seen.urls = [...new Set(answer.match(/https?:\/\/[^\s"'\\<>)\]]+/g))].sort();
  answer = yield ["outpaint", refused];
  seen.refusal = answer.match(/\[([a-z_]+)\]/)?.[1] ?? answer;
}

// The call that the model makes after this answer to its last one (undefined: it has made none), if it makes another.
export function nextCall(script, answer) {
  const { value } = script.next(answer);
  return value && { name: value[0], arguments: value[1] };
}

// What a model reads of an answer that is no text: the JSON of it, with its line ends as they are.
export const textOf = (answer) =>
  typeof answer === "string" ? answer : JSON.stringify(answer).replaceAll("\\n", "\n");

export async function run(drive) {
  let input = "";
  for await (const chunk of process.stdin) input += chunk;
  const { server, order, refused } = JSON.parse(input);
  const seen = {};
  const late = setTimeout(() => end("The agent took longer than 90 s."), 90_000);
  const end = (error) => {
    clearTimeout(late);
    if (error) console.error(error);
    process.stdout.write(`\n${JSON.stringify(seen)}\n`, () => process.exit(error ? 1 : 0));
  };
  try {
    await drive(server, conversation(order, refused, seen), (tools) => (seen.tools = tools));
    end();
  } catch (error) {
    end(error);
  }
}
