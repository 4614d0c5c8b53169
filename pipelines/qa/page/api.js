// Questions to the server. What it refuses becomes an Error with its sentence.

async function answer(response, path) {
  if (response.ok) return response;
  let sentence = `${path}: ${response.status} ${response.statusText}`;
  try {
    const told = await response.clone().json();
    sentence =
      told.message ??
      (Array.isArray(told.detail)
        ? told.detail.map((d) => `${d.loc?.join(".")}: ${d.msg}`).join("; ")
        : sentence);
  } catch {
    sentence = (await response.text()) || sentence;
  }
  throw new Error(sentence);
}

async function send(path, options) {
  let response;
  try {
    response = await fetch(`api/${path}`, options);
  } catch {
    throw new Error("the server does not answer; start it again");
  }
  return answer(response, path);
}

const body = (values) => ({
  method: "POST",
  body: JSON.stringify(values),
  headers: { "content-type": "application/json" },
});

export const get = async (path) => (await send(path)).json();
export const bytes = async (path) => (await send(path)).arrayBuffer();
export const post = async (path, values = {}) => (await send(path, body(values))).json();
export const text = async (path, values) => (await send(path, body(values))).text();
