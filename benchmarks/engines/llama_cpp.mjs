// SPDX-License-Identifier: Apache-2.0
// The most likely next tokens at some positions, by llama.cpp through node-llama-cpp.
//     node llama_cpp.mjs MODEL.gguf QUESTION.json ANSWER.json
import fs from "node:fs";
import { getLlama } from "node-llama-cpp";

const [, , file, question, answer] = process.argv;
const { tokens, positions, count } = JSON.parse(fs.readFileSync(question));
const asked = new Set(positions);
const llama = await getLlama({ gpu: false, build: "never" });
const model = await llama.loadModel({ modelPath: file });
const context = await model.createContext({ contextSize: tokens.length + 8, flashAttention: false });
const everything = { temperature: 1, topK: 0, topP: 1, minP: 0 };
const items = tokens.map((token, index) =>
    asked.has(index) ? [token, { generateNext: { probabilities: true, options: everything } }] : token);
const found = await context.getSequence().controlledEvaluate(items);
const rows = positions.map((index) =>
    Object.fromEntries([...found[index].next.probabilities].slice(0, count)
        .filter(([, probability]) => probability > 0)
        .map(([token, probability]) => [token, Math.log(probability)])));
fs.writeFileSync(answer, JSON.stringify({ version: llama.llamaCppRelease.release, rows }));
await llama.dispose();
