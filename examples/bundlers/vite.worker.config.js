// Vite before 8 builds workers of the page as one classic script each, which cannot load parts of the package later.
export default { worker: { format: "es" } };
